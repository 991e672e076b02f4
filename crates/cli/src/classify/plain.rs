//! Texts from the command line and from standard input.

use console::{style, truncate_str};
use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use understudy_protocol::v1::Classification;

use super::ask::{Answer, Asker, BATCH_MAX, CALLS_MAX};
use crate::output::Output;

const TEXT_WIDTH: usize = 60;

/// Texts of the command line. Returns how many were refused.
pub(super) async fn texts(asker: &Asker, output: &Output, texts: Vec<String>) -> anyhow::Result<u64> {
    let mut refused = 0;
    for texts in texts.chunks(BATCH_MAX) {
        for (text, answer) in texts.iter().zip(asker.ask(texts).await?) {
            refused += u64::from(print(output, text, &answer)?);
        }
    }
    Ok(refused)
}

/// Lines of standard input, answered as they come. Empty lines are skipped.
pub(super) async fn lines(asker: &Asker, output: &Output) -> anyhow::Result<u64> {
    let lines = BufReader::new(tokio::io::stdin()).lines();
    let lines = stream::try_unfold(lines, |mut lines| async move {
        anyhow::Ok(lines.next_line().await?.map(|line| (line, lines)))
    });
    let answers = lines
        .ready_chunks(BATCH_MAX)
        .map(|lines| async move {
            let lines: Vec<_> = lines.into_iter().collect::<Result<_, _>>()?;
            let texts: Vec<_> = lines.into_iter().filter(|line| !line.trim().is_empty()).collect();
            let answers = if texts.is_empty() {
                vec![]
            } else {
                asker.ask(&texts).await?
            };
            anyhow::Ok(texts.into_iter().zip(answers).collect::<Vec<_>>())
        })
        .buffered(CALLS_MAX);
    let mut answers = std::pin::pin!(answers);
    let mut refused = 0;
    while let Some(answered) = answers.next().await {
        for (text, answer) in answered? {
            refused += u64::from(print(output, &text, &answer)?);
        }
    }
    Ok(refused)
}

fn print(output: &Output, text: &str, answer: &Answer) -> anyhow::Result<bool> {
    let shown = truncate_str(text, TEXT_WIDTH, "…").replace(['\n', '\r', '\t'], " ");
    match answer {
        Ok(answer) if output.is_json() => output.compact(&as_json(text, answer))?,
        Ok(answer) => {
            let label = style(format!("{:<10}", answer.label)).bold();
            let cut = if answer.truncated {
                "  (its end was not seen)"
            } else {
                ""
            };
            output.line(format_args!(
                "{label} {:>6.2}%  {}  {shown}{cut}",
                answer.confidence * 100.0,
                answer.version
            ))?;
        }
        Err(refused) if output.is_json() => output.compact(&json!({ "text": text, "error": refused.0 }))?,
        Err(refused) => output.warning(format_args!("refused {shown:?}: {}", refused.0)),
    }
    Ok(answer.is_err())
}

fn as_json(text: &str, answer: &Classification) -> serde_json::Value {
    let probabilities: serde_json::Map<_, _> = answer
        .probabilities
        .iter()
        .map(|class| (class.label.clone(), class.probability.into()))
        .collect();
    json!({
        "text": text,
        "label": answer.label,
        "confidence": answer.confidence,
        "probabilities": probabilities,
        "token_count": answer.token_count,
        "truncated": answer.truncated,
        "version": answer.version,
    })
}
