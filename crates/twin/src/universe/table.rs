//! How a schema reads a document: [`Table`] asks for a key, [`Field`] states
//! what may stand there and what it means if nothing does.

use std::ops::{Bound, RangeBounds, RangeInclusive};

use wire::{
    Joules, JoulesPerKelvin, Kelvin, KelvinPerWatt, Metres, Nanos, SquareMetres, Watts,
    WattsPerKelvin, WattsPerSquareMetre,
};

use super::document::{Document, Entry, Kind, Origin, Value, join};
use super::error::{Fault, nearest};
use super::quantity::{
    Amount, BitsPerSecond, Bytes, Dimension, End, PerSecond, Range, Scalar, Unfit,
};
use super::reference::{Absence, KeyNote};

/// A table of the document, there or not. Reading from a table that is not
/// there gives the defaults; what is required is then missing.
#[derive(Clone, Debug)]
pub struct Table<'d> {
    document: &'d Document,
    contents: Contents<'d>,
    /// Dotted from the root, as in `shell.2`.
    path: String,
    /// The same with every index and free name replaced, as in `shell.N`.
    pattern: String,
}

#[derive(Clone, Copy, Debug)]
enum Contents<'d> {
    Here(&'d [Entry], &'d Origin),
    Absent,
    /// Something else stands in its place, which was said already.
    Broken,
    Imagined,
}

/// A key that was asked for and how it may be answered. What ends the question
/// ([`required`](Self::required), [`or`](Self::or), [`optional`](Self::optional),
/// [`list`](Self::list)) gives the value.
#[derive(Debug)]
#[must_use = "ask with required(), or(), optional() or list()"]
pub struct Field<'t, 'd, F> {
    table: &'t Table<'d>,
    key: &'static str,
    doc: &'static str,
    form: F,
}

/// What a value may look like.
pub trait Form {
    /// What it becomes.
    type Out: Clone;

    /// The value, or what was expected instead.
    ///
    /// # Errors
    ///
    /// What should have been there.
    fn read(&self, value: &Value) -> Result<Self::Out, String>;

    /// What may stand there, for the reference and for what is missing.
    fn expects(&self) -> String;

    /// Whether a value that cannot be read could be, but for what other values say.
    fn is_good_by_itself(&self, _: &Value) -> bool {
        false
    }

    /// A value to go on with when there is none.
    fn placeholder(&self) -> Self::Out;

    /// A value as it would stand in a file.
    fn write(&self, value: &Self::Out) -> String;

    /// Every value there is, if they are few and a schema may branch on them.
    fn options(&self) -> Vec<Self::Out> {
        Vec::new()
    }
}

/// A number with a unit.
#[derive(Clone, Copy, Debug)]
pub struct Measure<T> {
    dimension: Dimension,
    range: Range<T>,
    /// What an end follows from, where it is no constant.
    follows: [Option<&'static str>; 2],
}

/// Any text.
#[derive(Clone, Copy, Debug)]
pub struct Text;

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub struct Switch;

/// One of several words, each standing for a value.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'o, T>(&'o [(&'static str, T)]);

enum Answer<T> {
    Given(T),
    Absent,
    /// Something is there and was complained about.
    Wrong,
}

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $dimension:ident;)*) => {
        impl<'d> Table<'d> {
            $(
                $(#[$doc])*
                pub fn $name<'t>(
                    &'t self,
                    key: &'static str,
                    doc: &'static str,
                ) -> Field<'t, 'd, Measure<$type>> {
                    self.measure(key, doc, Dimension::$dimension)
                }
            )*
        }
    };
}

measures! {
    /// An absolute temperature.
    temperature: Kelvin = Temperature;
    /// How far apart two temperatures are.
    temperature_difference: Kelvin = TemperatureDifference;
    /// A span of time.
    time: Nanos = Time;
    /// A power.
    power: Watts = Power;
    /// An energy.
    energy: Joules = Energy;
    /// A length.
    length: Metres = Length;
    /// An area.
    area: SquareMetres = Area;
    /// The heat capacity of a body.
    heat_capacity: JoulesPerKelvin = HeatCapacity;
    /// A thermal conductance.
    conductance: WattsPerKelvin = Conductance;
    /// A thermal resistance.
    resistance: KelvinPerWatt = Resistance;
    /// A heat flux.
    flux: WattsPerSquareMetre = Flux;
    /// A share of one, as a bare number or in per cent.
    fraction: f64 = Fraction;
    /// How often, or how much of one, per time.
    rate: PerSecond = Rate;
    /// How much a link carries.
    bandwidth: BitsPerSecond = Bandwidth;
    /// An amount of data.
    data: Bytes = Data;
    /// A whole number.
    count: u64 = Count;
    /// A number without a dimension; may be negative.
    number: f64 = Number;
}

impl<'d> Table<'d> {
    pub(super) fn root(document: &'d Document, value: &'d Value) -> Self {
        Self::open(
            document,
            Some(value),
            Contents::Absent,
            String::new(),
            String::new(),
        )
    }

    /// A table inside this one, whether it is there or not.
    #[must_use]
    pub fn table(&self, key: &'static str, doc: &'static str) -> Table<'d> {
        let value = self.ask(key);
        self.note(key, doc, "a table".to_owned(), Absence::Meaningful);
        if let Some(wrong) = value.filter(|value| value.as_table().is_none()) {
            self.unexpected(
                wrong,
                key,
                format!("a table, [{}]", join(&self.pattern, key)),
            );
        }
        Self::open(
            self.document,
            value,
            self.inherited(),
            join(&self.path, key),
            join(&self.pattern, key),
        )
    }

    /// The tables `[[key]]` inside this one, as many as `count` allows.
    #[must_use]
    pub fn tables(
        &self,
        key: &'static str,
        count: RangeInclusive<usize>,
        doc: &'static str,
    ) -> Vec<Table<'d>> {
        let pattern = join(&self.pattern, key);
        let value = self.ask(key);
        let expects = format!("{} [[{pattern}]]", how_many("table", &count));
        let absence = if *count.start() == 0 {
            Absence::Meaningful
        } else {
            Absence::Wrong
        };
        self.note(key, doc, expects.clone(), absence);
        let open = |value, i: String, name| {
            let path = join(&join(&self.path, key), &i);
            Self::open(
                self.document,
                value,
                self.inherited(),
                path,
                join(&pattern, name),
            )
        };
        match value.map(|value| (value, &value.kind)) {
            Some((value, Kind::List(values))) => {
                if !count.contains(&values.len()) {
                    self.complain(
                        &value.origin,
                        key,
                        Fault::Unexpected {
                            found: how_many("table", &(values.len()..=values.len())),
                            expected: expects,
                        },
                    );
                }
                let tables = values.iter().enumerate().map(|(i, value)| {
                    if value.as_table().is_none() {
                        self.unexpected(value, key, format!("a table, [[{pattern}]]"));
                    }
                    open(Some(value), i.to_string(), "N")
                });
                tables.collect()
            }
            Some((value, _)) => {
                self.unexpected(value, key, expects);
                Vec::new()
            }
            None if matches!(self.contents, Contents::Imagined) => {
                vec![open(None, "N".to_owned(), "N")]
            }
            None => {
                if *count.start() > 0 {
                    self.missing(key, expects);
                }
                Vec::new()
            }
        }
    }

    /// The tables `[key.NAME]` inside this one, with the names the file gives
    /// them, in the order of the file.
    #[must_use]
    pub fn named_tables(&self, key: &'static str, doc: &'static str) -> Vec<(String, Table<'d>)> {
        let around = self.table(key, doc);
        let pattern = join(&around.pattern, "NAME");
        match around.contents {
            Contents::Here(entries, _) => entries
                .iter()
                .map(|entry| {
                    around.ask(&entry.name);
                    if entry.value.as_table().is_none() {
                        let expected = format!("a table, [{pattern}]");
                        around.unexpected(&entry.value, &entry.name, expected);
                    }
                    let path = join(&around.path, &entry.name);
                    let contents = Contents::Absent;
                    let table = Self::open(
                        self.document,
                        Some(&entry.value),
                        contents,
                        path,
                        pattern.clone(),
                    );
                    (entry.name.clone(), table)
                })
                .collect(),
            Contents::Imagined => {
                let path = join(&around.path, "NAME");
                let table = Self::open(self.document, None, Contents::Imagined, path, pattern);
                vec![("NAME".to_owned(), table)]
            }
            Contents::Absent | Contents::Broken => Vec::new(),
        }
    }

    /// A text.
    pub fn text<'t>(&'t self, key: &'static str, doc: &'static str) -> Field<'t, 'd, Text> {
        self.field(key, doc, Text)
    }

    /// `true` or `false`.
    pub fn flag<'t>(&'t self, key: &'static str, doc: &'static str) -> Field<'t, 'd, Switch> {
        self.field(key, doc, Switch)
    }

    /// One of several words, each standing for a value.
    pub fn choice<'t, 'o, T: Clone + PartialEq>(
        &'t self,
        key: &'static str,
        options: &'o [(&'static str, T)],
        doc: &'static str,
    ) -> Field<'t, 'd, Choice<'o, T>> {
        assert!(!options.is_empty(), "a choice without options: {key}");
        self.field(key, doc, Choice(options))
    }

    /// Whether the file or an override has this table.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        matches!(self.contents, Contents::Here(..) | Contents::Imagined)
    }

    /// Whether the file or an override sets this key, right or wrong. When a schema
    /// is read for its keys alone it does, so that none stays hidden behind a
    /// question.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.document.imagined.is_some() || self.find(key).is_some()
    }

    /// Where this table is, dotted from the root; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Refuses a key for a reason only the schema knows, as "must be later than
    /// `time.start`". Silent if the key was complained about before, or if there is any value
    /// that could not be read: the reason may hang on what stands in for it.
    pub fn refuse(&self, key: &str, reason: impl Into<String>) {
        let path = join(&self.path, key);
        let is_known = {
            let notes = self.document.notes.borrow();
            let mut problems = notes.problems.iter().chain(&notes.quarrels);
            problems.any(|problem| problem.key == path)
        };
        if is_known || matches!(self.contents, Contents::Imagined | Contents::Broken) {
            return;
        }
        let reason = reason.into();
        let (origin, found) = self
            .find(key)
            .map_or((self.origin(), "nothing".to_owned()), |value| {
                (&value.origin, value.to_string())
            });
        let fault = Fault::Refused { found, reason };
        self.document.quarrel(origin, &path, fault);
    }

    fn open(
        document: &'d Document,
        value: Option<&'d Value>,
        otherwise: Contents<'d>,
        path: String,
        pattern: String,
    ) -> Self {
        let mut notes = document.notes.borrow_mut();
        let contents = match value.map(|value| (value.as_table(), &value.origin)) {
            _ if document.imagined.is_some() => Contents::Imagined,
            Some((Some(entries), origin)) => Contents::Here(entries, origin),
            Some((None, _)) => Contents::Broken,
            None => otherwise,
        };
        notes.known.entry(path.clone()).or_default();
        drop(notes);
        Self {
            document,
            contents,
            path,
            pattern,
        }
    }

    /// What a table is that should be in this one and is not.
    const fn inherited(&self) -> Contents<'d> {
        match self.contents {
            Contents::Broken => Contents::Broken,
            Contents::Imagined => Contents::Imagined,
            Contents::Here(..) | Contents::Absent => Contents::Absent,
        }
    }

    fn find(&self, key: &str) -> Option<&'d Value> {
        match self.contents {
            Contents::Here(entries, _) => entries
                .iter()
                .find(|entry| entry.name == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Finds a key and remembers that it was asked for.
    fn ask(&self, key: &str) -> Option<&'d Value> {
        let mut notes = self.document.notes.borrow_mut();
        let known = notes.known.entry(self.path.clone()).or_default();
        known.insert(key.to_owned());
        drop(notes);
        self.find(key)
    }

    fn note(&self, key: &str, doc: &str, expects: String, absence: Absence) {
        self.document.notes.borrow_mut().reference.note(KeyNote {
            table: self.pattern.clone(),
            key: key.to_owned(),
            expects,
            absence,
            doc: doc.to_owned(),
        });
    }

    const fn origin(&self) -> &'d Origin {
        match self.contents {
            Contents::Here(_, origin) => origin,
            _ => &Origin::Whole,
        }
    }

    fn complain(&self, origin: &Origin, key: &str, fault: Fault) {
        let path = join(&self.path, key);
        self.document.complain(origin, &path, fault);
    }

    fn unexpected(&self, value: &Value, key: &str, expected: String) {
        let found = value.to_string();
        self.complain(&value.origin, key, Fault::Unexpected { found, expected });
    }

    fn missing(&self, key: &str, expected: String) {
        if !matches!(self.contents, Contents::Imagined | Contents::Broken) {
            self.complain(self.origin(), key, Fault::Missing { expected });
        }
    }

    const fn field<'t, F>(
        &'t self,
        key: &'static str,
        doc: &'static str,
        form: F,
    ) -> Field<'t, 'd, F> {
        Field {
            table: self,
            key,
            doc,
            form,
        }
    }

    const fn measure<'t, T: Scalar>(
        &'t self,
        key: &'static str,
        doc: &'static str,
        dimension: Dimension,
    ) -> Field<'t, 'd, Measure<T>> {
        let range = Range::of(dimension);
        let follows = [None; 2];
        self.field(
            key,
            doc,
            Measure {
                dimension,
                range,
                follows,
            },
        )
    }
}

impl<T: Scalar> Field<'_, '_, Measure<T>> {
    /// Only values in this range, `Kelvin(200.0)..=Kelvin(500.0)`. Unless a
    /// range says otherwise, only differences and bare numbers go below zero.
    pub fn range(mut self, range: impl RangeBounds<T>) -> Self {
        let stated = &mut self.form.range;
        match range.start_bound().cloned() {
            Bound::Unbounded => {}
            low => stated.low = low,
        }
        match range.end_bound().cloned() {
            Bound::Unbounded => {}
            high => stated.high = high,
        }
        self
    }

    /// Only values up to this one, which follows from something else: "`every`".
    pub fn up_to(mut self, most: T, follows: &'static str) -> Self {
        self.form.follows[End::High as usize] = Some(follows);
        self.range((Bound::Unbounded, Bound::Included(most)))
    }

    /// Only values from this one on, which follows from something else: "`delay_min`".
    pub fn at_least(mut self, least: T, follows: &'static str) -> Self {
        self.form.follows[End::Low as usize] = Some(follows);
        self.range((Bound::Included(least), Bound::Unbounded))
    }

    /// Only values above zero.
    pub fn positive(self) -> Self {
        self.range((Bound::Excluded(T::ZERO), Bound::Unbounded))
    }
}

impl<F: Form> Field<'_, '_, F> {
    /// The value; that there is none is a problem.
    #[must_use]
    pub fn required(self) -> F::Out {
        let expects = self.form.expects();
        self.table
            .note(self.key, self.doc, expects.clone(), Absence::Wrong);
        match self.answer() {
            Answer::Given(value) => value,
            Answer::Absent => {
                self.table.missing(self.key, expects);
                self.form.placeholder()
            }
            Answer::Wrong => self.form.placeholder(),
        }
    }

    /// The value, or this one if there is none.
    #[must_use]
    pub fn or(self, default: F::Out) -> F::Out {
        let written = self.form.write(&default);
        self.or_absent(default, Absence::Default(written))
    }

    /// The same where the default follows from something else: "90 % of `throttle`".
    #[must_use]
    pub fn or_derived(self, default: F::Out, follows: &'static str) -> F::Out {
        self.or_absent(default, Absence::Derived(follows))
    }

    fn or_absent(self, default: F::Out, absence: Absence) -> F::Out {
        self.table
            .note(self.key, self.doc, self.form.expects(), absence);
        match self.answer() {
            Answer::Given(value) => value,
            Answer::Absent | Answer::Wrong => default,
        }
    }

    /// The value if there is one; the key's text says what it means if not.
    #[must_use]
    pub fn optional(self) -> Option<F::Out> {
        self.table
            .note(self.key, self.doc, self.form.expects(), Absence::Meaningful);
        match self.answer() {
            Answer::Given(value) => Some(value),
            Answer::Wrong => Some(self.form.placeholder()),
            Answer::Absent if matches!(self.table.contents, Contents::Imagined) => {
                Some(self.form.placeholder())
            }
            Answer::Absent => None,
        }
    }

    /// A list of such values, as many as `count` allows; no list is the empty one.
    #[must_use]
    pub fn list(self, count: RangeInclusive<usize>) -> Vec<F::Out> {
        let Self {
            table, key, form, ..
        } = &self;
        let least = *count.start();
        let expects = format!(
            "a list of {}, each {}",
            how_many("value", &count),
            form.expects()
        );
        let absence = if least == 0 {
            Absence::Default("[]".to_owned())
        } else {
            Absence::Wrong
        };
        table.note(key, self.doc, expects.clone(), absence);
        match table.ask(key).map(|value| (value, &value.kind)) {
            Some((value, Kind::List(values))) => {
                if !count.contains(&values.len()) {
                    let found = format!(
                        "a list of {}",
                        how_many("value", &(values.len()..=values.len()))
                    );
                    let expected = expects;
                    table.complain(&value.origin, key, Fault::Unexpected { found, expected });
                }
                let path = join(&table.path, key);
                let read = |(i, value): (usize, &Value)| {
                    form.read(value).unwrap_or_else(|expected| {
                        let found = value.to_string();
                        table.document.complain(
                            &value.origin,
                            &join(&path, &i.to_string()),
                            Fault::Unexpected { found, expected },
                        );
                        form.placeholder()
                    })
                };
                values.iter().enumerate().map(read).collect()
            }
            other => {
                match other {
                    Some((value, _)) => table.unexpected(value, key, expects),
                    None if least > 0 => table.missing(key, expects),
                    None => {}
                }
                vec![form.placeholder(); least]
            }
        }
    }

    fn answer(&self) -> Answer<F::Out> {
        let value = self.table.ask(self.key);
        if let Some(choices) = &self.table.document.imagined {
            let options = self.form.options();
            let path = join(&self.table.pattern, self.key);
            let chosen = choices.get(&path).and_then(|&i| options.get(i).cloned());
            let mut notes = self.table.document.notes.borrow_mut();
            notes.choices.push((path, options.len()));
            return chosen.map_or(Answer::Absent, Answer::Given);
        }
        match value.map(|value| (value, self.form.read(value))) {
            None => Answer::Absent,
            Some((_, Ok(read))) => Answer::Given(read),
            Some((value, Err(expected))) if self.form.is_good_by_itself(value) => {
                let found = value.to_string();
                let path = join(&self.table.path, self.key);
                let fault = Fault::Unexpected { found, expected };
                (self.table.document).quarrel(&value.origin, &path, fault);
                Answer::Wrong
            }
            Some((value, Err(expected))) => {
                self.table.unexpected(value, self.key, expected);
                Answer::Wrong
            }
        }
    }
}

impl<T: Scalar> Measure<T> {
    fn example(&self) -> String {
        let Self { dimension, .. } = self;
        let units: Vec<_> = dimension.units().collect();
        let example = format!("{}, such as {}", dimension.name(), dimension.example());
        if units.is_empty() {
            example
        } else {
            format!("{example}; units: {}", units.join(", "))
        }
    }

    fn within(&self) -> String {
        let range = self.range.describe(|_, value| value.write(self.dimension));
        format!("{}{range}", self.dimension.name())
    }
}

impl<T: Scalar> Form for Measure<T> {
    type Out = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let is_bare = self.dimension.is_bare();
        let text = match &value.kind {
            // "1000" in quotes is a text, unless it might as well have had a unit.
            Kind::Text(text) if self.dimension.units().next().is_some() => text.clone(),
            Kind::Integer(number) if is_bare => number.to_string(),
            Kind::Float(number) if is_bare => number.to_string(),
            _ => return Err(self.example()),
        };
        let amount = Amount::parse(&text, self.dimension).ok_or_else(|| self.example())?;
        match T::from_amount(&amount) {
            Ok(read) if self.range.contains(read) => Ok(read),
            Err(Unfit::NotWhole) => Err(self.example()),
            Err(Unfit::TooLarge) if matches!(self.range.high, Bound::Unbounded) => {
                let name = self.dimension.name();
                Err(match T::MAX {
                    Some(most) => format!("{name} of at most {}", most.write(self.dimension)),
                    None => format!("{name} that a float can hold"),
                })
            }
            Ok(_) | Err(_) => Err(self.within()),
        }
    }

    fn expects(&self) -> String {
        let range = self.range.describe(|end, value| {
            let follows = self.follows[end as usize];
            follows.map_or_else(|| value.write(self.dimension), str::to_owned)
        });
        let (name, example) = (self.dimension.name(), self.dimension.example());
        format!("{name}{range}, such as {example}")
    }

    fn is_good_by_itself(&self, value: &Value) -> bool {
        let mut alone = Self {
            follows: [None; 2],
            ..*self
        };
        if self.follows[End::Low as usize].is_some() {
            alone.range.low = Bound::Unbounded;
        }
        if self.follows[End::High as usize].is_some() {
            alone.range.high = Bound::Unbounded;
        }
        alone.read(value).is_ok()
    }

    fn placeholder(&self) -> T {
        self.range.placeholder()
    }

    fn write(&self, value: &T) -> String {
        let text = value.write(self.dimension);
        if text.ends_with(|c: char| c.is_ascii_digit()) {
            text
        } else {
            format!("\"{text}\"")
        }
    }
}

impl Form for Text {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        match &value.kind {
            Kind::Text(text) => Ok(text.clone()),
            _ => Err(self.expects()),
        }
    }

    fn expects(&self) -> String {
        "a text in quotes".to_owned()
    }

    fn placeholder(&self) -> String {
        String::new()
    }

    fn write(&self, value: &String) -> String {
        format!("{value:?}")
    }
}

impl Form for Switch {
    type Out = bool;

    fn read(&self, value: &Value) -> Result<bool, String> {
        match &value.kind {
            Kind::Flag(flag) => Ok(*flag),
            _ => Err(self.expects()),
        }
    }

    fn expects(&self) -> String {
        "true or false".to_owned()
    }

    fn placeholder(&self) -> bool {
        false
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn options(&self) -> Vec<bool> {
        vec![false, true]
    }
}

impl<T: Clone + PartialEq> Form for Choice<'_, T> {
    type Out = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let Kind::Text(text) = &value.kind else {
            return Err(self.expects());
        };
        match self.0.iter().find(|(word, _)| word == text) {
            Some((_, meant)) => Ok(meant.clone()),
            None => Err(match nearest(text, self.0.iter().map(|(word, _)| *word)) {
                Some(near) => format!("{}; did you mean \"{near}\"?", self.expects()),
                None => self.expects(),
            }),
        }
    }

    fn expects(&self) -> String {
        let words: Vec<_> = self
            .0
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        match words.as_slice() {
            [only] => only.clone(),
            _ => format!("one of {}", words.join(", ")),
        }
    }

    fn placeholder(&self) -> T {
        self.0[0].1.clone()
    }

    fn write(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, meant)| meant == value);
        let (word, _) = word.expect("a default that is not among the options cannot be written");
        format!("\"{word}\"")
    }

    fn options(&self) -> Vec<T> {
        self.0.iter().map(|(_, meant)| meant.clone()).collect()
    }
}

/// "one table", "2 to 5 values", "at least one value".
fn how_many(what: &str, count: &RangeInclusive<usize>) -> String {
    let s = |n: usize| if n == 1 { "" } else { "s" };
    match (*count.start(), *count.end()) {
        (least, most) if least == most => format!("{least} {what}{}", s(least)),
        (0, usize::MAX) => format!("any number of {what}s"),
        (least, usize::MAX) => format!("at least {least} {what}{}", s(least)),
        (0, most) => format!("up to {most} {what}{}", s(most)),
        (least, most) => format!("{least} to {most} {what}s"),
    }
}
