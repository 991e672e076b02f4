//! The critique at the terminal while it is written.

use console::{Term, measure_text_width, style};
use indicatif::ProgressBar;
use understudy_protocol::v1::{Attempt, CritiqueFinish};

use super::tell::{self, heading};
use crate::output::{Output, printable};

/// Longer lines are hard to read.
const WIDTH_MAX: usize = 100;

/// Shows the text as it comes. With `--json` it only waits.
pub(super) struct Live<'a> {
    output: &'a Output,
    spinner: Option<ProgressBar>,
    wrap: Wrap,
    /// Of the attempt that runs.
    text: String,
    begun: bool,
}

impl<'a> Live<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self {
            output,
            spinner: None,
            wrap: Wrap::new(width()),
            text: String::new(),
            begun: false,
        }
    }

    /// Until the first word.
    pub(super) fn wait(&mut self) {
        if self.spinner.is_none() {
            self.spinner = Some(self.output.spinner("the scribe reads the fact sheet"));
        }
    }

    /// Before a message on the terminal, or the end.
    pub(super) fn pause(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    pub(super) fn attempt(&mut self, attempt: &Attempt) -> anyhow::Result<()> {
        if attempt.number <= 1 || attempt.unsupported.is_empty() {
            return Ok(());
        }
        let claims = match attempt.unsupported.len() {
            1 => "1 claim".to_owned(),
            many => format!("{many} claims"),
        };
        self.again(&format!(
            "attempt {}: the fact sheet does not support {claims} of the text above",
            attempt.number
        ))?;
        if !self.output.is_json() {
            for claim in &attempt.unsupported {
                self.output.line(format_args!("    {}", tell::complaint(claim)))?;
            }
            self.output.line("")?;
        }
        Ok(())
    }

    /// The stream broke.
    pub(super) fn lost(&mut self, why: &str) -> anyhow::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.again(&format!("the critique begins again: {why}"))?;
        if self.output.is_json() {
            Ok(())
        } else {
            self.output.line("")
        }
    }

    fn again(&mut self, why: &str) -> anyhow::Result<()> {
        self.pause();
        self.end_of_text()?;
        self.text.clear();
        if self.output.is_json() {
            return Ok(());
        }
        self.output.line(format_args!("\n{} {why}", style("↻").yellow().bold()))
    }

    pub(super) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.pause();
        self.text.push_str(text);
        if self.output.is_json() {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            self.output.line(format_args!("{}\n", heading("Critique")))?;
        }
        let ready = self.wrap.push(&printable(text));
        if ready.is_empty() {
            Ok(())
        } else {
            self.output.raw(ready.as_bytes())
        }
    }

    /// What is delivered may be another text than the one that was shown last.
    pub(super) fn finish(&mut self, finish: &CritiqueFinish) -> anyhow::Result<()> {
        self.pause();
        self.end_of_text()?;
        if self.output.is_json() || self.text.trim() == finish.text.trim() {
            return Ok(());
        }
        let report = finish.report.clone().unwrap_or_default();
        let title = format!(
            "Critique as delivered (attempt {} of {})",
            report.attempt, report.attempts
        );
        let mut wrap = Wrap::new(width());
        let text = wrap.push(&printable(finish.text.trim())) + &wrap.finish();
        self.output.line(format_args!("\n{}\n\n{text}", heading(&title)))
    }

    fn end_of_text(&mut self) -> anyhow::Result<()> {
        let rest = self.wrap.finish();
        if self.output.is_json() || self.text.is_empty() {
            return Ok(());
        }
        self.output.line(rest)
    }
}

/// The lines' width, if it is a person who reads.
fn width() -> Option<usize> {
    let terminal = Term::stdout();
    terminal
        .is_term()
        .then(|| usize::from(terminal.size().1).clamp(20, WIDTH_MAX))
}

/// Breaks lines between words while the text comes.
#[derive(Debug)]
struct Wrap {
    /// Lines stay as they are without.
    width: Option<usize>,
    column: usize,
    /// May go on.
    word: String,
    blank: bool,
}

impl Wrap {
    fn new(width: Option<usize>) -> Self {
        Self {
            width,
            column: 0,
            word: String::new(),
            blank: false,
        }
    }

    /// What can be shown by now.
    fn push(&mut self, text: &str) -> String {
        if self.width.is_none() {
            return text.to_owned();
        }
        let mut ready = String::new();
        for c in text.chars() {
            match c {
                '\n' => {
                    self.end_word(&mut ready);
                    ready.push('\n');
                    (self.column, self.blank) = (0, false);
                }
                c if c.is_whitespace() => {
                    self.end_word(&mut ready);
                    self.blank = self.column > 0;
                }
                c => self.word.push(c),
            }
        }
        ready
    }

    /// The rest. The next text begins a line.
    fn finish(&mut self) -> String {
        let mut ready = String::new();
        self.end_word(&mut ready);
        (self.column, self.blank) = (0, false);
        ready
    }

    fn end_word(&mut self, ready: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let width = measure_text_width(&self.word);
        let blank = usize::from(self.blank);
        if self.column > 0 && self.column + blank + width > self.width.unwrap_or(usize::MAX) {
            ready.push('\n');
            self.column = 0;
        } else if self.blank {
            ready.push(' ');
            self.column += blank;
        }
        ready.push_str(&self.word);
        self.column += width;
        self.blank = false;
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_wherever_the_pieces_end() {
        let text = "The corpus has 12 reviews.  Most are kind.\n\nA verylongwordthatdoesnotfit stays whole.";
        let expected = "The corpus has 12\nreviews. Most are\nkind.\n\nA\nverylongwordthatdoesnotfit\nstays whole.";
        for size in 1..9 {
            let mut wrap = Wrap::new(Some(18));
            let characters: Vec<_> = text.chars().collect();
            let pieces = characters
                .chunks(size)
                .map(|piece| wrap.push(&piece.iter().collect::<String>()));
            let shown = pieces.collect::<String>() + &wrap.finish();
            assert_eq!(shown, expected, "pieces of {size}");
        }
    }

    #[test]
    fn nothing_is_changed_for_a_program() {
        let mut wrap = Wrap::new(None);
        assert_eq!(wrap.push("a  b\n") + &wrap.push("c ") + &wrap.finish(), "a  b\nc ");
    }
}
