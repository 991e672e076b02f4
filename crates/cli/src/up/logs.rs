//! The children's log lines, told apart.

use console::style;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use understudy_telemetry::LogFormat;

use super::coloured;
use crate::output::Output;

/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 64 << 10;
const NAME_WIDTH: usize = 11;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogStyle {
    /// A prefix in the colour of the process.
    Terminal,
    /// A prefix.
    Text,
    /// One JSON object a line, with a field `process`.
    Json,
}

impl LogStyle {
    pub(super) fn choose(format: LogFormat, is_terminal: bool) -> Self {
        match (format, is_terminal) {
            (LogFormat::Json, _) | (LogFormat::Auto, false) => Self::Json,
            (_, true) => Self::Terminal,
            (LogFormat::Text, false) => Self::Text,
        }
    }

    /// What the children are told.
    pub(super) fn child_format(self) -> &'static str {
        if self == Self::Json { "json" } else { "text" }
    }

    /// A line of the supervisor's own.
    pub(super) fn say(self, output: &Output, text: &str) {
        match self {
            Self::Terminal => output.remark(
                style(format!("{:<NAME_WIDTH$} {text}", "understudy"))
                    .for_stderr()
                    .bold(),
            ),
            Self::Text => output.remark(format_args!("{:<NAME_WIDTH$} | {text}", "understudy")),
            Self::Json => output.remark(serde_json::json!({ "process": "understudy", "message": text })),
        }
    }

    fn render(self, name: &str, index: usize, line: &str) -> String {
        match self {
            Self::Terminal => {
                let line = without_date(line);
                let line = if line.contains(" ERROR ") {
                    style(line).for_stderr().red().to_string()
                } else if line.contains(" WARN ") {
                    style(line).for_stderr().yellow().to_string()
                } else {
                    line.to_owned()
                };
                format!("{} {line}", coloured(&format!("{name:<NAME_WIDTH$}"), index))
            }
            Self::Text => format!("{name:<NAME_WIDTH$} | {line}"),
            Self::Json => match line.strip_prefix('{') {
                Some(rest) if rest.starts_with('"') => format!("{{\"process\":\"{name}\",{rest}"),
                _ => serde_json::json!({ "process": name, "message": line }).to_string(),
            },
        }
    }

    /// Copies lines until the stream ends.
    pub(super) async fn pump(self, output: Output, name: String, index: usize, mut from: impl AsyncBufRead + Unpin) {
        let mut line = Vec::new();
        loop {
            let more = next_line(&mut from, &mut line).await;
            if !line.is_empty() {
                output.remark(self.render(&name, index, &String::from_utf8_lossy(&line)));
            }
            if !more {
                return;
            }
        }
    }
}

/// `2026-11-21T10:13:38.951447Z  INFO …` without the day and the microseconds.
fn without_date(line: &str) -> String {
    let is_dated = line.get(10..11) == Some("T") && line.get(26..27) == Some("Z");
    match (is_dated, line.get(11..19), line.get(27..)) {
        (true, Some(time), Some(rest)) => format!("{time} {}", rest.trim_start()),
        _ => line.to_owned(),
    }
}

/// Reads up to the next line break; false at the end of the stream. What is longer than the bound is dropped.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> bool {
    line.clear();
    loop {
        let Ok(available) = from.fill_buf().await else {
            return false;
        };
        if available.is_empty() {
            return false;
        }
        let (part, used, ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&available[..end], end + 1, true),
            None => (available, available.len(), false),
        };
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        from.consume(used);
        if ended {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_stay_json() {
        let line = LogStyle::Json.render("router", 0, r#"{"level":"INFO"}"#);
        assert_eq!(line, r#"{"process":"router","level":"INFO"}"#);
        let panic: serde_json::Value = serde_json::from_str(&LogStyle::Json.render("router", 0, "{oh \"no\"")).unwrap();
        assert_eq!(panic["message"], "{oh \"no\"");
        assert_eq!(LogStyle::Text.render("router", 0, "hi"), "router      | hi");
    }

    #[test]
    fn terminals_get_the_time_of_day() {
        assert_eq!(
            without_date("2026-11-21T10:13:38.951447Z  INFO ready"),
            "10:13:38 INFO ready"
        );
        for other in ["", "thread panicked at", "éééééééééééééééééé"] {
            assert_eq!(without_date(other), other);
        }
    }

    #[tokio::test]
    async fn long_lines_are_cut() {
        let long = [vec![b'x'; 100_000], b"\nshort".to_vec()].concat();
        let mut from = long.as_slice();
        let mut line = Vec::new();
        assert!(next_line(&mut from, &mut line).await);
        assert_eq!(line.len(), LINE_BYTES_MAX);
        assert!(!next_line(&mut from, &mut line).await);
        assert_eq!(line, b"short");
    }
}
