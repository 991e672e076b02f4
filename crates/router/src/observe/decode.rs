//! Reading sampled requests and answers. Never on the way of a request.

use bytes::{Buf as _, Bytes};
use prost::Message;
pub(super) use understudy_protocol::v1::Classification;
use understudy_protocol::v1::{
    ClassifyBatchRequest, ClassifyBatchResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, FinishReason, GenerateRequest, GenerateResponse, WriteCritiqueRequest,
    WriteCritiqueResponse, classify_stream_response, generate_request, generate_response, write_critique_response,
};

use super::Frames;

/// Classes at most; answers with more are not numbered beyond.
const CLASSES_MAX: usize = 255;

/// A method whose answers can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the methods are")]
pub enum Task {
    Classify,
    ClassifyBatch,
    ClassifyStream,
    Generate,
    WriteCritique,
}

impl Task {
    /// By the path of the request.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/understudy.v1.Analyst/Classify" => Some(Self::Classify),
            "/understudy.v1.Analyst/ClassifyBatch" => Some(Self::ClassifyBatch),
            "/understudy.v1.Analyst/ClassifyStream" => Some(Self::ClassifyStream),
            "/understudy.v1.Scribe/Generate" => Some(Self::Generate),
            "/understudy.v1.Scribe/WriteCritique" => Some(Self::WriteCritique),
            _ => None,
        }
    }
}

/// Why an answer was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Its messages are compressed.
    #[error("the answer is compressed")]
    Compressed,
    /// It is not what the method answers.
    #[error("the answer is malformed or incomplete")]
    Malformed,
    /// It was not kept.
    #[error("the answer is larger than is kept")]
    NotKept,
}

impl Undecodable {
    /// A label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Compressed => "compressed",
            Self::Malformed => "malformed",
            Self::NotKept => "too_large",
        }
    }

    /// Whether the version that answered is to blame.
    #[must_use]
    pub fn is_fault(self) -> bool {
        self == Self::Malformed
    }
}

/// An answer, as far as it is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One for each text; `None` for a text of a stream that was refused.
    Classes(Vec<Option<Classification>>),
    /// A generated text.
    Text(TextAnswer),
}

/// A generated text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextAnswer {
    /// Its length.
    pub tokens: u32,
    /// Why it ended; a critique does not tell.
    pub reason: Option<FinishReason>,
    /// Supported claims, and all; of critiques.
    pub claims: Option<(u32, u32)>,
}

/// Names of the classes with their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes(Vec<String>);

impl Classes {
    /// In the order in which an answer gives its probabilities.
    #[must_use]
    pub fn of(answer: &Classification) -> Self {
        let names = answer.probabilities.iter().take(CLASSES_MAX - 1);
        Self(names.map(|class| class.label.clone()).collect())
    }

    /// How many have a name. All others share one more number.
    #[must_use]
    pub fn named(&self) -> usize {
        self.0.len()
    }

    /// The class's number.
    #[must_use]
    pub fn index(&self, label: &str) -> usize {
        self.0.iter().position(|name| name == label).unwrap_or(self.0.len())
    }
}

/// Reads an answer.
///
/// # Errors
/// If it cannot be read.
pub fn decode(task: Task, frames: &Frames) -> Result<Answer, Undecodable> {
    if frames.problem().is_some() {
        return Err(Undecodable::NotKept);
    }
    let mut messages = Messages(frames.joined());
    match task {
        Task::Classify => {
            let answer: ClassifyResponse = messages.only()?;
            let classification = answer.classification.ok_or(Undecodable::Malformed)?;
            Ok(Answer::Classes(vec![Some(classification)]))
        }
        Task::ClassifyBatch => {
            let answer: ClassifyBatchResponse = messages.only()?;
            Ok(Answer::Classes(answer.classifications.into_iter().map(Some).collect()))
        }
        Task::ClassifyStream => {
            let mut answers = Vec::new();
            while let Some(answer) = messages.next::<ClassifyStreamResponse>()? {
                answers.push(match answer.result {
                    Some(classify_stream_response::Result::Classification(classification)) => Some(classification),
                    Some(classify_stream_response::Result::Refusal(_)) => None,
                    None => return Err(Undecodable::Malformed),
                });
            }
            Ok(Answer::Classes(answers))
        }
        Task::Generate => {
            while let Some(message) = messages.next::<GenerateResponse>()? {
                if let Some(generate_response::Event::Finish(finish)) = message.event {
                    return Ok(Answer::Text(TextAnswer {
                        tokens: finish.usage.unwrap_or_default().completion_tokens,
                        reason: FinishReason::try_from(finish.reason).ok(),
                        claims: None,
                    }));
                }
            }
            Err(Undecodable::Malformed)
        }
        Task::WriteCritique => {
            while let Some(message) = messages.next::<WriteCritiqueResponse>()? {
                if let Some(write_critique_response::Event::Finish(finish)) = message.event {
                    let report = finish
                        .report
                        .map(|r| (r.supported, r.supported.saturating_add(r.unsupported)));
                    return Ok(Answer::Text(TextAnswer {
                        tokens: finish.usage.unwrap_or_default().completion_tokens,
                        reason: None,
                        claims: report,
                    }));
                }
            }
            Err(Undecodable::Malformed)
        }
    }
}

/// The text of a request that is kept for people: the one with this index; of a chat the last message, of a critique the title.
#[must_use]
pub fn request_text(task: Task, frames: &Frames, index: usize) -> Option<String> {
    let mut messages = Messages(frames.joined());
    match task {
        Task::Classify => Some(messages.only::<ClassifyRequest>().ok()?.text),
        Task::ClassifyBatch => messages
            .only::<ClassifyBatchRequest>()
            .ok()?
            .texts
            .into_iter()
            .nth(index),
        Task::ClassifyStream => {
            for _ in 0..index {
                messages.next::<ClassifyStreamRequest>().ok()??;
            }
            Some(messages.next::<ClassifyStreamRequest>().ok()??.text)
        }
        Task::Generate => match messages.only::<GenerateRequest>().ok()?.input? {
            generate_request::Input::Prompt(prompt) => Some(prompt),
            generate_request::Input::Chat(chat) => Some(chat.messages.into_iter().next_back()?.content),
        },
        Task::WriteCritique => Some(messages.only::<WriteCritiqueRequest>().ok()?.sheet?.title),
    }
}

/// gRPC messages: a flag for compression, the length as four bytes big-endian, the message.
struct Messages(Bytes);

impl Messages {
    fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Undecodable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let compressed = self.0.try_get_u8().map_err(|_| Undecodable::Malformed)? != 0;
        let length = self.0.try_get_u32().map_err(|_| Undecodable::Malformed)?;
        let length = usize::try_from(length).ok().filter(|&length| length <= self.0.len());
        let message = self.0.split_to(length.ok_or(Undecodable::Malformed)?);
        if compressed {
            return Err(Undecodable::Compressed);
        }
        M::decode(message).map(Some).map_err(|_| Undecodable::Malformed)
    }

    fn only<M: Message + Default>(&mut self) -> Result<M, Undecodable> {
        let message = self.next()?.ok_or(Undecodable::Malformed)?;
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Undecodable::Malformed)
        }
    }
}

#[cfg(test)]
mod tests;
