//! What was said, and what a line of input means. Pure.

use anyhow::ensure;
use understudy_protocol::v1::{ChatMessage, Role};

/// Of one call, by the contract.
const MESSAGES_MAX: usize = 256;

/// A conversation, in which questions and answers alternate.
#[derive(Debug)]
pub(super) struct Conversation {
    system: Option<String>,
    turns: Vec<ChatMessage>,
}

impl Conversation {
    pub(super) fn new(system: Option<String>) -> Self {
        Self {
            system,
            turns: Vec::new(),
        }
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub(super) fn set_system(&mut self, text: &str) {
        self.system = Some(text.to_owned());
    }

    /// Keeps the system prompt.
    pub(super) fn reset(&mut self) {
        self.turns.clear();
    }

    /// The messages that ask this.
    pub(super) fn ask(&mut self, question: &str) -> anyhow::Result<Vec<ChatMessage>> {
        let system = self.system.iter().map(|text| message(Role::System, text));
        let messages = system.len() + self.turns.len() + 1;
        ensure!(
            messages <= MESSAGES_MAX,
            "the conversation is too long: /reset begins a new one"
        );
        self.turns.push(message(Role::User, question));
        Ok(system.chain(self.turns.iter().cloned()).collect())
    }

    /// Part of an answer is one too; without any, the question was never asked.
    pub(super) fn answered(&mut self, text: &str) {
        if text.is_empty() {
            self.turns.pop();
        } else {
            self.turns.push(message(Role::Assistant, text));
        }
    }
}

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.into(),
        content: content.to_owned(),
    }
}

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    Nothing,
    Question(&'a str),
    Reset,
    Exit,
    Help,
    System(Option<&'a str>),
    Unknown(&'a str),
}

impl<'a> Input<'a> {
    pub(super) fn read(line: &'a str) -> Self {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "" => Self::Nothing,
            "/reset" => Self::Reset,
            "/exit" | "/quit" => Self::Exit,
            "/help" => Self::Help,
            "/system" => Self::System(Some(rest).filter(|rest| !rest.is_empty())),
            _ if command.starts_with('/') => Self::Unknown(command),
            _ => Self::Question(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(messages: &[ChatMessage]) -> Vec<(Role, &str)> {
        messages
            .iter()
            .map(|message| (message.role(), message.content.as_str()))
            .collect()
    }

    #[test]
    fn history_is_kept_and_what_failed_is_not() {
        let mut conversation = Conversation::new(None);
        assert_eq!(said(&conversation.ask("one").unwrap()), [(Role::User, "one")]);
        conversation.answered("");
        conversation.ask("two").unwrap();
        conversation.answered("2");
        conversation.set_system("short");
        let messages = conversation.ask("three").unwrap();
        let expected = [
            (Role::System, "short"),
            (Role::User, "two"),
            (Role::Assistant, "2"),
            (Role::User, "three"),
        ];
        assert_eq!(said(&messages), expected);
        conversation.reset();
        assert_eq!(conversation.ask("four").unwrap().len(), 2);
    }

    #[test]
    fn the_contract_bounds_it() {
        let mut conversation = Conversation::new(Some("s".into()));
        while let Ok(messages) = conversation.ask("q") {
            assert!(messages.len() <= MESSAGES_MAX);
            conversation.answered("a");
        }
        conversation.reset();
        assert!(conversation.ask("q").is_ok());
    }

    #[test]
    fn lines() {
        let cases = [
            ("  ", Input::Nothing),
            (" what? ", Input::Question("what?")),
            ("/reset", Input::Reset),
            ("/system", Input::System(None)),
            ("/system  be brief ", Input::System(Some("be brief"))),
            ("/sing x", Input::Unknown("/sing")),
            ("/exit", Input::Exit),
        ];
        for (line, expected) in cases {
            assert_eq!(Input::read(line), expected, "{line}");
        }
    }
}
