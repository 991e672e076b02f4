//! What the model is asked.

use crate::sheet::FactSheet;

/// The critic.
pub const SYSTEM: &str = "\
You are a critic who writes about collections of reviews. You are given a fact sheet: statistics that were measured, and \
quotations. Ground every observation in it. Use only its figures, copied exactly, each for the thing that it was measured \
on; if you round, round correctly. Quote only its quotations, word for word, in double quotation marks. Never invent a \
figure, a name, a title or a cause. Be objective and balanced: give each side the room that its share deserves, say how \
certain the figures are, and neither praise nor mock. Progress clearly: first the overall picture, then how certain it \
is, then length and language, then what the reviewers say in their own words, and last a conclusion that adds no new \
figure. Write plain paragraphs without headings or lists.";

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sets the task.
    System,
    /// Asks.
    User,
    /// The model.
    Assistant,
}

/// Asks for a critique of the sheet.
#[must_use]
pub fn critique(sheet: &FactSheet) -> Vec<Message> {
    vec![
        Message {
            role: Role::System,
            content: SYSTEM.to_owned(),
        },
        Message {
            role: Role::User,
            content: format!("{sheet}\nWrite a critique of this corpus."),
        },
    ]
}

/// Asks again: a draft, and what is wrong with it.
#[must_use]
pub fn revision(sheet: &FactSheet, draft: &str, unsupported: &[String]) -> Vec<Message> {
    let mut messages = critique(sheet);
    messages.push(Message {
        role: Role::Assistant,
        content: draft.to_owned(),
    });
    let mut complaint = String::from("The fact sheet does not support this:\n");
    for claim in unsupported {
        complaint.push_str("- ");
        complaint.push_str(claim);
        complaint.push('\n');
    }
    complaint.push_str("Write the whole critique again, with nothing that the fact sheet does not support.");
    messages.push(Message {
        role: Role::User,
        content: complaint,
    });
    messages
}
