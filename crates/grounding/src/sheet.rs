//! The fact sheet: all that a critique may say about a corpus, one named fact a line.

use std::fmt;

/// Most facts of a sheet.
pub const FACTS_MAX: usize = 256;
/// Most quotations of a sheet.
pub const QUOTATIONS_MAX: usize = 64;
/// Most characters of a title, a name, a subject or a word.
pub const NAME_CHARACTERS_MAX: usize = 200;
/// Most characters of a quotation.
pub const QUOTATION_CHARACTERS_MAX: usize = 1000;

/// What is known of a corpus.
#[derive(Debug, Clone, PartialEq)]
pub struct FactSheet {
    /// What the corpus is called.
    pub title: String,
    /// What it is made of, in the plural: "reviews".
    pub items: String,
    /// Name and subject together occur once.
    pub facts: Vec<Fact>,
    /// Texts that may be quoted.
    pub quotations: Vec<Quotation>,
}

/// One line of the sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// E.g. "share", "mean length".
    pub name: String,
    /// The class that it is about; `None` for the whole corpus.
    pub subject: Option<String>,
    /// What is so.
    pub value: Value,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A figure.
    Number {
        /// In the unit: 54.1 percent is 54.1.
        value: f64,
        /// Of the value.
        unit: Unit,
        /// Digits after the point.
        decimals: usize,
    },
    /// A figure's interval.
    Range {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
        /// Of both ends.
        unit: Unit,
        /// Digits after the point.
        decimals: usize,
    },
    /// A name or a word, e.g. the class that is most frequent.
    Text(String),
    /// Several, the most telling first.
    Words(Vec<String>),
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Of a hundred.
    Percent,
    /// A difference of percentages.
    PercentagePoints,
    /// Of what the corpus is made of.
    Items,
    /// Words.
    Words,
}

/// A text that may be quoted.
#[derive(Debug, Clone, PartialEq)]
pub struct Quotation {
    /// Verbatim.
    pub text: String,
    /// The class of the text that it stands in; `None` if the classifier was uncertain.
    pub subject: Option<String>,
    /// The classifier's confidence in it, 0 to 1.
    pub confidence: f64,
}

impl Fact {
    /// The name with its subject, as it stands in the sheet: "share of positive reviews".
    #[must_use]
    pub fn title(&self, items: &str) -> String {
        match &self.subject {
            None => self.name.clone(),
            Some(subject) => format!("{} of {subject} {items}", self.name),
        }
    }
}

/// A figure as it stands in a sheet: the thousands are grouped.
#[must_use]
pub fn figure(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

impl Unit {
    fn suffix(self, items: &str) -> String {
        match self {
            Self::None => String::new(),
            Self::Percent => "%".to_owned(),
            Self::PercentagePoints => " percentage points".to_owned(),
            Self::Items => format!(" {items}"),
            Self::Words => " words".to_owned(),
        }
    }

    fn repeated_suffix(self) -> &'static str {
        if self == Self::Percent { "%" } else { "" }
    }
}

impl Value {
    /// As it stands in a sheet about these items: "54.1%", "1,204 reviews".
    #[must_use]
    pub fn shown(&self, items: &str) -> String {
        match self {
            Self::Number { value, unit, decimals } => {
                format!("{}{}", figure(*value, *decimals), unit.suffix(items))
            }
            Self::Range {
                low,
                high,
                unit,
                decimals,
            } => {
                let (low, high) = (figure(*low, *decimals), figure(*high, *decimals));
                format!("{low}{} to {high}{}", unit.repeated_suffix(), unit.suffix(items))
            }
            Self::Text(text) => text.clone(),
            Self::Words(words) => words.join(", "),
        }
    }
}

/// As the model reads it.
impl fmt::Display for FactSheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Corpus: {}", self.title)?;
        writeln!(f, "Facts:")?;
        for fact in &self.facts {
            writeln!(f, "- {}: {}", fact.title(&self.items), fact.value.shown(&self.items))?;
        }
        if !self.quotations.is_empty() {
            writeln!(f, "Quotations:")?;
        }
        for quotation in &self.quotations {
            let class = quotation.subject.as_deref().unwrap_or("uncertain");
            writeln!(f, "- {class} ({:.2}): \"{}\"", quotation.confidence, quotation.text)?;
        }
        Ok(())
    }
}
