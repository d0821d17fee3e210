//! Where does a production trace run hot?
