//! Reports as one HTML file that needs nothing else: no scripts, no fonts, no network. Light or dark as the reader's system is.

pub(crate) mod plot;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use plot::Plot;

const STYLE: &str = include_str!("report/report.css");

/// A report.
pub(crate) struct Page {
    head: String,
    body: String,
}

impl Page {
    /// `kicker` says what kind of report it is, `subtitle` of what.
    pub(crate) fn new(kicker: &str, title: &str, subtitle: &str) -> Self {
        let (kicker, title, subtitle) = (escape(kicker), escape(title), escape(subtitle));
        Self {
            head: format!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
            ),
            body: format!(
                "<header><p class=\"kicker\">{kicker}</p><h1>{title}</h1><p class=\"muted\">{subtitle}</p></header>\n"
            ),
        }
    }

    /// The figures that a reader wants first: name, value, and perhaps its interval.
    pub(crate) fn tiles(&mut self, tiles: &[(&str, String, Option<String>)]) {
        self.body += "<dl class=\"tiles\">\n";
        for (name, value, interval) in tiles {
            let interval = interval
                .as_ref()
                .map_or(String::new(), |interval| format!("<small>{}</small>", escape(interval)));
            let _ = writeln!(
                self.body,
                "<div><dt>{}{interval}</dt><dd>{}</dd></div>",
                escape(name),
                escape(value)
            );
        }
        self.body += "</dl>\n";
    }

    pub(crate) fn section(&mut self, section: Section) {
        let _ = writeln!(
            self.body,
            "<section><h2>{}</h2>\n{}</section>",
            escape(&section.title),
            section.body
        );
    }

    /// The whole file.
    pub(crate) fn html(self) -> String {
        format!("{}{}</main>\n</body>\n</html>\n", self.head, self.body)
    }
}

/// A part of a report under a heading.
pub(crate) struct Section {
    title: String,
    body: String,
}

impl Section {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// A table; its cells are plain text.
    pub(crate) fn table<C: AsRef<str>>(&mut self, columns: &[C], rows: &[Vec<String>]) {
        self.body += "<div class=\"scroll\"><table><thead><tr>";
        for column in columns {
            let _ = write!(self.body, "<th scope=\"col\">{}</th>", escape(column.as_ref()));
        }
        self.body += "</tr></thead><tbody>\n";
        for row in rows {
            self.body += "<tr>";
            for cell in row {
                let _ = write!(self.body, "<td>{}</td>", escape(cell));
            }
            self.body += "</tr>\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// A plot under its caption, with its legend where it has more than one series.
    pub(crate) fn figure(&mut self, caption: &str, plot: Plot) {
        let _ = writeln!(self.body, "<figure><figcaption>{}</figcaption>", escape(caption));
        if plot.legend.len() > 1 {
            self.body += "<p class=\"legend\">";
            for (index, name) in plot.legend.iter().enumerate() {
                let colour = index % plot::SERIES.len();
                let _ = write!(self.body, "<span><i class=\"key{colour}\"></i>{}</span> ", escape(name));
            }
            self.body += "</p>\n";
        }
        // The image's name for those who do not see it; the figures are in the tables. On a narrow screen a plot scrolls before
        // its text becomes too small.
        let start = format!(
            "<svg role=\"img\" aria-label=\"{}\" style=\"min-width: {}px; max-width: {}px\" ",
            escape(caption),
            plot.width * 5 / 6,
            plot.width
        );
        let svg = plot.svg.replacen("<svg ", &start, 1);
        let _ = writeln!(self.body, "<div class=\"scroll\">{svg}</div></figure>");
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
