//! From GBNF to a grammar.

use std::{collections::HashMap, ops::RangeInclusive};

use super::{Class, Element, Grammar};

/// Longest grammar in bytes.
const BYTES_MAX: usize = 64 * 1024;

/// Most symbols of a grammar, after its repetitions are written out.
const SYMBOLS_MAX: usize = 200_000;

/// Most repetitions that can be asked for, as in llama.cpp.
const REPETITIONS_MAX: u32 = 2000;

/// Deepest nesting of parentheses.
const DEPTH_MAX: usize = 64;

/// What is wrong with a grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct GrammarError {
    line: usize,
    problem: String,
}

#[derive(Debug, Clone, Copy)]
enum Symbol {
    Class(u32),
    Rule(u32),
}

type Sequence = Vec<Symbol>;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: HashMap<&'a str, u32>,
    /// Filled as they are defined.
    rules: Vec<Option<Vec<Sequence>>>,
    classes: Vec<Class>,
    known_classes: HashMap<(Vec<RangeInclusive<u32>>, bool), u32>,
    symbols: usize,
}

impl Grammar {
    /// Reads GBNF with a rule named "root".
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let mut parser = Parser {
            text,
            at: 0,
            names: HashMap::new(),
            rules: Vec::new(),
            classes: Vec::new(),
            known_classes: HashMap::new(),
            symbols: 0,
        };
        if text.len() > BYTES_MAX {
            return Err(parser.error(format!("it has {} bytes; at most {BYTES_MAX} are allowed", text.len())));
        }
        parser.space(true);
        while parser.peek().is_some() {
            parser.rule()?;
        }
        let Some(&root) = parser.names.get("root") else {
            return Err(parser.error("it has no rule named \"root\"".to_owned()));
        };
        let undefined = parser
            .names
            .iter()
            .find(|(_, rule)| parser.rules[**rule as usize].is_none());
        if let Some((name, _)) = undefined {
            return Err(parser.error(format!("the rule {name:?} is used and not defined")));
        }
        Ok(parser.flatten(root))
    }
}

impl<'a> Parser<'a> {
    fn error(&self, problem: String) -> GrammarError {
        let before = self.text.get(..self.at).unwrap_or_default();
        GrammarError {
            line: 1 + before.matches('\n').count(),
            problem,
        }
    }

    fn expected<T>(&self, what: &str) -> Result<T, GrammarError> {
        let found = match self.peek() {
            Some(c) => format!("{c:?}"),
            None => "the end".to_owned(),
        };
        Err(self.error(format!("expected {what}, found {found}")))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, token: &str) -> bool {
        let there = self.text[self.at..].starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    /// Skips blanks and comments, and the ends of lines where a rule goes on.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if lines => self.at += 1,
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find(['\r', '\n']).unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .unwrap_or(rest.len());
        if length == 0 {
            return self.expected("a rule's name");
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn rule_named(&mut self, name: &'a str) -> Result<u32, GrammarError> {
        if let Some(&rule) = self.names.get(name) {
            return Ok(rule);
        }
        let rule = self.new_rule(None)?;
        self.names.insert(name, rule);
        Ok(rule)
    }

    fn new_rule(&mut self, alternatives: Option<Vec<Sequence>>) -> Result<u32, GrammarError> {
        let size = alternatives.iter().flatten().map(|sequence| sequence.len() + 1).sum();
        self.grow(size)?;
        let number = index(self.rules.len());
        self.rules.push(alternatives);
        Ok(number)
    }

    fn grow(&mut self, symbols: usize) -> Result<(), GrammarError> {
        self.symbols = self.symbols.saturating_add(symbols).saturating_add(1);
        if self.symbols > SYMBOLS_MAX {
            return Err(self.error(format!(
                "it has more than {SYMBOLS_MAX} symbols with its repetitions written out; make it smaller"
            )));
        }
        Ok(())
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let name = self.name()?;
        let rule = self.rule_named(name)?;
        self.space(false);
        if !self.take("::=") {
            return self.expected("\"::=\"");
        }
        self.space(true);
        let alternatives = self.alternatives(0)?;
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            return self.expected("the end of the line");
        }
        self.space(true);
        self.rules[rule as usize] = Some(alternatives);
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Vec<Sequence>, GrammarError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("parentheses are nested more than {DEPTH_MAX} deep")));
        }
        let mut alternatives = vec![self.sequence(depth)?];
        while self.take("|") {
            self.space(true);
            alternatives.push(self.sequence(depth)?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self, depth: usize) -> Result<Sequence, GrammarError> {
        let mut sequence = Sequence::new();
        // Where the last item begins, which a repetition is of.
        let mut item: Option<usize> = None;
        while let Some(c) = self.peek() {
            match c {
                '*' | '+' | '?' | '{' => {
                    let Some(begin) = item else {
                        return Err(self.error(format!("nothing stands before {c:?} that it could repeat")));
                    };
                    let (least, most) = self.bounds()?;
                    let repeated = sequence.split_off(begin);
                    self.repeat(repeated, least, most, &mut sequence)?;
                }
                '"' => {
                    self.at += 1;
                    item = Some(sequence.len());
                    while !self.take("\"") {
                        let c = self.character()?;
                        self.push_class(&mut sequence, vec![c..=c], false)?;
                    }
                }
                '[' => {
                    self.at += 1;
                    item = Some(sequence.len());
                    let (ranges, negated) = self.class()?;
                    self.push_class(&mut sequence, ranges, negated)?;
                }
                '.' => {
                    self.at += 1;
                    item = Some(sequence.len());
                    self.push_class(&mut sequence, Vec::new(), true)?;
                }
                '(' => {
                    self.at += 1;
                    self.space(true);
                    let alternatives = self.alternatives(depth + 1)?;
                    if !self.take(")") {
                        return self.expected("\")\"");
                    }
                    item = Some(sequence.len());
                    let rule = self.new_rule(Some(alternatives))?;
                    sequence.push(Symbol::Rule(rule));
                }
                '<' | '!' => {
                    return Err(self.error("references to tokens are not supported; write their text".to_owned()));
                }
                c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                    let name = self.name()?;
                    item = Some(sequence.len());
                    let rule = self.rule_named(name)?;
                    sequence.push(Symbol::Rule(rule));
                }
                _ => break,
            }
            self.grow(1)?;
            self.space(depth > 0);
        }
        Ok(sequence)
    }

    fn push_class(
        &mut self,
        sequence: &mut Sequence,
        ranges: Vec<RangeInclusive<u32>>,
        negated: bool,
    ) -> Result<(), GrammarError> {
        self.grow(ranges.len())?;
        let key = (ranges, negated);
        let number = match self.known_classes.get(&key) {
            Some(&number) => number,
            None => {
                let number = index(self.classes.len());
                self.classes.push(Class::new(key.0.clone(), negated));
                self.known_classes.insert(key, number);
                number
            }
        };
        sequence.push(Symbol::Class(number));
        Ok(())
    }

    fn class(&mut self) -> Result<(Vec<RangeInclusive<u32>>, bool), GrammarError> {
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            let low = self.character()?;
            let rest = &self.text[self.at..];
            let high = if rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                self.character()?
            } else {
                low
            };
            if low > high {
                return Err(self.error("a range of characters ends before it begins".to_owned()));
            }
            ranges.push(low..=high);
        }
        Ok((ranges, negated))
    }

    fn character(&mut self) -> Result<u32, GrammarError> {
        let Some(c) = self.next() else {
            return self.expected("a character");
        };
        if c != '\\' {
            return Ok(c.into());
        }
        match self.next() {
            Some('x') => self.hexadecimal(2),
            Some('u') => self.hexadecimal(4),
            Some('U') => self.hexadecimal(8),
            Some('t') => Ok('\t'.into()),
            Some('r') => Ok('\r'.into()),
            Some('n') => Ok('\n'.into()),
            Some(c) if c.is_ascii_punctuation() => Ok(c.into()),
            _ => Err(self.error("an unknown escape stands after a backslash".to_owned())),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<u32, GrammarError> {
        let code = self
            .text
            .get(self.at..self.at + digits)
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = code.and_then(|code| u32::from_str_radix(code, 16).ok()) else {
            return Err(self.error(format!("expected {digits} hexadecimal digits")));
        };
        self.at += digits;
        Ok(code)
    }

    /// Least and most repetitions.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        let bounds = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => {
                self.space(false);
                let least = self.number()?;
                self.space(false);
                let most = if self.take(",") {
                    self.space(false);
                    if self.peek().is_some_and(|c| c.is_ascii_digit()) {
                        Some(self.number()?)
                    } else {
                        None
                    }
                } else {
                    Some(least)
                };
                self.space(false);
                if !self.take("}") {
                    return self.expected("\"}\"");
                }
                (least, most)
            }
        };
        if bounds.1.is_some_and(|most| most < bounds.0) {
            return Err(self.error("a repetition's most is less than its least".to_owned()));
        }
        Ok(bounds)
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        let rest = &self.text[self.at..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits == 0 {
            return self.expected("a number");
        }
        match rest[..digits].parse() {
            Ok(number) if number <= REPETITIONS_MAX => {
                self.at += digits;
                Ok(number)
            }
            _ => Err(self.error(format!("at most {REPETITIONS_MAX} repetitions are supported"))),
        }
    }

    /// Writes a repetition out: `S{m,n}` is S m times, then a chain of n - m optional ones; `S*` a rule that refers to itself.
    fn repeat(
        &mut self,
        item: Sequence,
        least: u32,
        most: Option<u32>,
        out: &mut Sequence,
    ) -> Result<(), GrammarError> {
        let one = match item.as_slice() {
            [single] => *single,
            _ => Symbol::Rule(self.new_rule(Some(vec![item]))?),
        };
        self.grow(least as usize)?;
        out.extend((0..least).map(|_| one));
        match most {
            None => {
                let again = self.new_rule(None)?;
                self.rules[again as usize] = Some(vec![vec![one, Symbol::Rule(again)], Vec::new()]);
                self.grow(4)?;
                out.push(Symbol::Rule(again));
            }
            Some(most) => {
                let mut rest = None;
                for _ in least..most {
                    let mut sequence = vec![one];
                    sequence.extend(rest);
                    rest = Some(Symbol::Rule(self.new_rule(Some(vec![sequence, Vec::new()]))?));
                }
                out.extend(rest);
            }
        }
        Ok(())
    }

    fn flatten(self, root: u32) -> Grammar {
        let mut elements = Vec::with_capacity(self.symbols);
        let mut rules = Vec::with_capacity(self.rules.len());
        for alternatives in self.rules {
            let mut begins = Vec::new();
            for sequence in alternatives.unwrap_or_default() {
                begins.push(index(elements.len()));
                elements.extend(sequence.into_iter().map(|symbol| match symbol {
                    Symbol::Class(class) => Element::Class(class),
                    Symbol::Rule(rule) => Element::Rule(rule),
                }));
                elements.push(Element::End);
            }
            rules.push(begins);
        }
        Grammar {
            elements,
            classes: self.classes,
            rules,
            root,
        }
    }
}

/// All counts are below [`SYMBOLS_MAX`].
fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
