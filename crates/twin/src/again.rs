//! Can this run be lived again?
//!
//! From what its history says it was made from: the universe's text with its settings, the
//! lists, whose fingerprints have to be the same, and the seed. What is made so is the
//! same run, as far as the same code runs it; whoever visits a moment compares what is
//! decided on the way with what the history holds ([`Differs`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::inputs::InputError;
use crate::record::{Inputs, Past, PastError};
use crate::rehearsal::{Given, LoadError, Universe};
use crate::site::{self, Scene, Visit};
use crate::universe::{Document, Override, Problems, SettingError};

/// A run of a site that can be lived again.
#[derive(Debug)]
pub struct Again {
    /// What it was made from.
    pub inputs: Inputs,
    /// Its universe.
    pub config: site::Config,
    /// What stood there and came.
    pub scene: Arc<Scene>,
    /// Its seed.
    pub seed: u64,
}

/// Why a run cannot be lived again.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// Its history does not say from what it was made.
    #[error(transparent)]
    Past(#[from] PastError),
    /// Its lists are gone or have changed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// This version of the twin reads its universe differently.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// A setting is none any more.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Its lists cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its universe is of another kind.
    #[error("universe {universe} is no site")]
    NotASite {
        /// Its name.
        universe: String,
    },
    /// It went another way this time.
    #[error(transparent)]
    Differs(#[from] Differs),
}

/// A repetition decided otherwise than the run it repeats.
#[derive(Debug, thiserror::Error)]
#[error(
    "simulated again, the run decides otherwise: at {at} the history says \"{recorded}\", the repetition \"{repeated}\"; \
     it was made by version {made_by}, this is {this}"
)]
pub struct Differs {
    /// When, in words.
    pub at: String,
    /// What the history holds.
    pub recorded: String,
    /// What was decided this time.
    pub repeated: String,
    /// The version that made the run.
    pub made_by: String,
    /// This version.
    pub this: String,
}

impl Again {
    /// Prepares a run to be lived again; its lists may have moved to `folder`.
    ///
    /// # Errors
    /// If it does not say what it was made from, or that is not what it was.
    pub fn of(past: &Past, folder: Option<&Path>) -> Result<Self, AgainError> {
        let inputs = past.inputs()?;
        inputs.verify(folder)?;
        let mut universe = Self::read(&inputs, &[])?;
        let folder: Option<PathBuf> = folder.map(Path::to_owned).or(inputs.folder.clone());
        universe.load(&Given {
            folder: folder.as_deref(),
            jobs: &inputs.jobs,
            format: inputs.format,
            ..Given::default()
        })?;
        match universe {
            Universe::Site(config, Some(scene)) => Ok(Self {
                inputs,
                config: *config,
                scene,
                seed: past.seed,
            }),
            other => Err(AgainError::NotASite {
                universe: other.name().to_owned(),
            }),
        }
    }

    fn read(inputs: &Inputs, more: &[Override]) -> Result<Universe, AgainError> {
        let settings = inputs.settings.iter().map(|text| text.parse());
        let mut settings: Vec<Override> = settings.collect::<Result<_, _>>()?;
        settings.extend(more.iter().cloned());
        let document = Document::parse(&inputs.universe, &inputs.text, &settings)?;
        Ok(Universe::read(&document)?)
    }

    /// Its universe with more settings.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn with(&self, settings: &[Override]) -> Result<site::Config, AgainError> {
        match Self::read(&self.inputs, settings)? {
            Universe::Site(config, _) => Ok(*config),
            other => Err(AgainError::NotASite {
                universe: other.name().to_owned(),
            }),
        }
    }

    /// The run at its beginning.
    #[must_use]
    pub fn begin(&self) -> Visit<'_> {
        Visit::new(&self.config, &self.scene, self.seed)
    }
}
