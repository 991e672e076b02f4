//! Where a command's answer, its progress and its remarks go.

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use understudy_protocol::json;

/// Answers go to standard output; remarks and bars to standard error, bars only if it is a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    bars: MultiProgress,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            bars: MultiProgress::new(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard error is a terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// One line of the answer.
    pub(crate) fn line(&self, text: impl Display) -> anyhow::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// A part of the answer, as it is.
    pub(crate) fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
            other => Ok(other?),
        }
    }

    /// The answer as JSON.
    pub(crate) fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// The answer as JSON on one line.
    pub(crate) fn compact(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// The answer as protobuf JSON.
    pub(crate) fn message<M: prost::Name>(&self, message: &M) -> anyhow::Result<()> {
        self.line(json::to_string(message)?)
    }

    /// A line for the person, above the bars.
    pub(crate) fn remark(&self, text: impl Display) {
        self.bars.suspend(|| {
            // Nobody is left to be told that standard error is closed.
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    pub(crate) fn warning(&self, text: impl Display) {
        self.remark(format_args!(
            "{} {text}",
            style("warning:").yellow().bold().for_stderr()
        ));
    }

    /// Reports why the command failed. A reader that went away (`understudy … | head`) is no failure.
    pub(crate) fn error(&self, error: &anyhow::Error) -> ExitCode {
        if error.is::<ReaderGone>() {
            return ExitCode::SUCCESS;
        }
        if self.json {
            self.remark(serde_json::json!({ "error": format!("{error:#}") }));
        } else {
            self.remark(format_args!("{} {error:#}", style("error:").red().bold().for_stderr()));
        }
        ExitCode::FAILURE
    }

    /// A bar over `total` units; the template adds to the usual `{bar}`.
    pub(crate) fn bar(&self, total: u64, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars
            .add(ProgressBar::new(total).with_style(style.progress_chars("━╸ ")))
    }

    pub(crate) fn spinner(&self, message: impl Into<String>) -> ProgressBar {
        let spinner = self.bars.add(ProgressBar::new_spinner().with_message(message.into()));
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }
}

/// A message as a part of a JSON document.
pub(crate) fn json_value<M: prost::Name>(message: &M) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(&json::to_string(message)?)?)
}

/// Standard output was closed by its reader.
#[derive(Debug)]
struct ReaderGone;

impl std::error::Error for ReaderGone {}

impl fmt::Display for ReaderGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("standard output was closed")
    }
}

/// A model's text without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "")
}

/// `1 row`, `1,204 rows`
pub(crate) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(number))
}

/// `2026-11-21T19:10:24Z`: to the second; `--json` has it in full.
pub(crate) fn moment(at: Option<prost_types::Timestamp>) -> String {
    let second = |at: prost_types::Timestamp| prost_types::Timestamp { nanos: 0, ..at };
    at.map(|at| second(at).to_string()).unwrap_or_default()
}

/// `1,234,567`
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `250 ms`, `4.2 s`, `3 min 20 s`
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        short if short < 0.9995 => format!("{:.0} ms", short * 1000.0),
        seconds if seconds < 120.0 => format!("{:.1} s", seconds),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

/// Reads `250ms`, `30s`, `1.5m` or `1h`; a bare number is seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write e.g. 250ms, 30s or 5m");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let year = Duration::from_secs(31_536_000);
    let time = Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|time| !time.is_zero() && *time < year);
    time.ok_or_else(|| format!("{text:?} must be more than nothing and less than a year"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_command_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a[2Jb\n\tc");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([1, 1_204].map(|rows| counted(rows, "row")), ["1 row", "1,204 rows"]);
        let at = prost_types::Timestamp {
            seconds: 1_785_000_000,
            nanos: 123_456_789,
        };
        assert_eq!(moment(Some(at)), "2026-07-25T17:20:00Z");
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "0", "-1s", "5 s", "5d", "NaN", "inf", "1e99h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(
            [250, 4_200, 200_000].map(|ms| duration(Duration::from_millis(ms))),
            ["250 ms", "4.2 s", "3 min 20 s"]
        );
    }
}
