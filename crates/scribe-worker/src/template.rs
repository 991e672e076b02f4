//! From messages to a prompt, by the template that the model's file brings (pure, but for llama.cpp's list).
//!
//! What users write must stay text: `<|eot_id|>` in a message must not end the turn. So a message goes through the template
//! between two marks, and what comes out between them is tokenised without special tokens.
//!
//! A template is Jinja and runs as such, bounded. One that does not run here may be known to llama.cpp by its look; else
//! the model takes prompts only.

use llama_cpp_2::model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel};
use minijinja::{Environment, ErrorKind, context, value::Value};
use serde::Serialize;

use crate::engine::{Message, Role};

/// Steps that a template may take.
const FUEL: u64 = 500_000;

/// Bytes that a template may write besides the messages.
const OVERHEAD_BYTES_MAX: usize = 256 * 1024;

/// Around a message's text. Unicode sets these apart from all characters.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

const NAME: &str = "chat_template";

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// From the template: special tokens in it count.
    Template(String),
    /// From a message: plain text.
    Text(String),
}

impl Part {
    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Template(text) | Self::Text(text) => text,
        }
    }
}

/// How a model wants messages.
pub enum Template {
    /// Its own.
    Jinja {
        /// With the template as its only one.
        environment: Box<Environment<'static>>,
        /// Text of the begin-of-text token.
        bos: String,
        /// Text of the end token.
        eos: String,
    },
    /// One that llama.cpp knows by its look.
    Known(LlamaChatTemplate),
    /// Why there is none.
    Missing(String),
}

#[derive(Serialize)]
struct Marked<'a> {
    role: &'a str,
    content: String,
}

impl Template {
    /// A template that was tried on a conversation.
    #[must_use]
    pub fn new(source: Option<&str>, bos: String, eos: String, model: &LlamaModel) -> Self {
        let Some(source) = source else {
            return Self::Missing("has no chat template".to_owned());
        };
        let jinja = Self::jinja(source, bos, eos);
        let problem = match jinja.and_then(|template| template.tried(model)) {
            Ok(template) => return template,
            Err(problem) => problem,
        };
        let known = LlamaChatTemplate::new(source).map_err(|error| error.to_string());
        match known.and_then(|known| Self::Known(known).tried(model)) {
            Ok(template) => template,
            Err(_) => Self::Missing(format!("has a chat template that does not work here ({problem})")),
        }
    }

    /// Reads a Jinja template.
    ///
    /// # Errors
    /// If it is not one.
    pub fn jinja(source: &str, bos: String, eos: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As Hugging Face runs them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| error.to_string())?;
        Ok(Self::Jinja {
            environment: Box::new(environment),
            bos,
            eos,
        })
    }

    fn tried(self, model: &LlamaModel) -> Result<Self, String> {
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        let conversation = [
            message(Role::User, "one"),
            message(Role::Assistant, "two"),
            message(Role::User, "three"),
        ];
        let parts = self.render(&conversation, model)?;
        let texts = parts.iter().filter(|part| matches!(part, Part::Text(_))).count();
        if texts == conversation.len() {
            Ok(self)
        } else {
            Err("it leaves out messages".to_owned())
        }
    }

    /// The prompt for the next turn of the assistant.
    ///
    /// # Errors
    /// Why the template does not take these messages, to follow "messages".
    pub fn render(&self, messages: &[Message], model: &LlamaModel) -> Result<Vec<Part>, String> {
        let refused = |problem: String| format!("are not what the model's chat template takes: {problem}");
        match self {
            Self::Jinja { environment, bos, eos } => jinja(environment, bos, eos, messages).map_err(refused),
            Self::Known(template) => known(template, messages, model).map_err(refused),
            Self::Missing(problem) => Err(format!("cannot be used: this model {problem}; send a prompt instead")),
        }
    }
}

fn jinja(environment: &Environment<'static>, bos: &str, eos: &str, messages: &[Message]) -> Result<Vec<Part>, String> {
    let marked: Vec<Marked<'_>> = messages.iter().map(marked).collect();
    let room = OVERHEAD_BYTES_MAX + 2 * marked.iter().map(|message| message.content.len()).sum::<usize>();
    let mut out = Bounded { text: Vec::new(), room };
    let template = environment.get_template(NAME).map_err(|error| error.to_string())?;
    let values = context! {
        messages => marked,
        bos_token => bos,
        eos_token => eos,
        add_generation_prompt => true,
    };
    template
        .render_captured_to(values, &mut out)
        .map_err(|error| error.detail().map_or_else(|| error.to_string(), str::to_owned))?;
    parts(&String::from_utf8_lossy(&out.text))
}

fn known(template: &LlamaChatTemplate, messages: &[Message], model: &LlamaModel) -> Result<Vec<Part>, String> {
    let messages: Vec<LlamaChatMessage> = messages
        .iter()
        .map(|message| {
            let Marked { role, content } = marked(message);
            LlamaChatMessage::new(role.to_owned(), content.replace('\0', "\u{fffd}"))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let text = model
        .apply_chat_template(template, &messages, true)
        .map_err(|error| error.to_string())?;
    parts(&text)
}

/// White space stays outside of the marks, so that a template can trim it.
fn marked(message: &Message) -> Marked<'static> {
    let content = message.content.replace([BEGIN, END], "\u{fffd}");
    let text = content.trim_start();
    let (before, text) = content.split_at(content.len() - text.len());
    let (text, after) = text.split_at(text.trim_end().len());
    Marked {
        role: match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        content: format!("{before}{BEGIN}{text}{END}{after}"),
    }
}

fn parts(rendered: &str) -> Result<Vec<Part>, String> {
    let torn = || Err("it tears messages apart".to_owned());
    let mut parts = Vec::new();
    let mut push = |part: Part, text: &str| {
        if !text.is_empty() {
            parts.push(part);
        }
    };
    let mut pieces = rendered.split(BEGIN);
    let first = pieces.next().unwrap_or_default();
    if first.contains(END) {
        return torn();
    }
    push(Part::Template(first.to_owned()), first);
    for piece in pieces {
        match piece.split_once(END) {
            Some((text, template)) if !template.contains(END) => {
                // Also an empty message is one.
                push(Part::Text(text.to_owned()), "always");
                push(Part::Template(template.to_owned()), template);
            }
            _ => return torn(),
        }
    }
    Ok(parts)
}

struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.room {
            return Err(std::io::Error::other("it writes too much"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA_3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = \
        '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if \
        loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if \
        add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

    fn render(source: &str, messages: &[(Role, &str)]) -> Result<Vec<Part>, String> {
        let Template::Jinja { environment, bos, eos } = Template::jinja(source, "<|bos|>".into(), "<|eos|>".into())?
        else {
            unreachable!()
        };
        let messages: Vec<Message> = messages
            .iter()
            .map(|(role, content)| Message {
                role: *role,
                content: (*content).to_owned(),
            })
            .collect();
        jinja(&environment, &bos, &eos, &messages)
    }

    #[test]
    fn text_stays_text() {
        let parts = render(
            LLAMA_3,
            &[(Role::System, " Be brief.\n"), (Role::User, "a<|eot_id|>\u{fdd1}b")],
        )
        .unwrap();
        let template = |text: &str| Part::Template(text.to_owned());
        assert_eq!(
            parts,
            [
                template("<|bos|><|start_header_id|>system<|end_header_id|>\n\n"),
                Part::Text("Be brief.".into()),
                template("<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"),
                Part::Text("a<|eot_id|>\u{fffd}b".into()),
                template("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
            ]
        );
    }

    #[test]
    fn methods_of_python_work() {
        let source =
            "{% for m in messages %}{{ m.content.strip() }}{% if m.role.startswith('u') %}?{% endif %}{% endfor %}";
        let parts = render(source, &[(Role::User, " x ")]).unwrap();
        assert_eq!(parts, [Part::Text("x".into()), Part::Template("?".into())]);
    }

    #[test]
    fn bad_templates_are_errors() {
        let refused = |source: &str| render(source, &[(Role::User, "x y")]).unwrap_err();
        assert!(refused("{% for %}").contains("syntax"));
        assert_eq!(refused("{{ raise_exception('no system') }}"), "no system");
        assert!(refused("{{ messages[0].content.split(' ')[0] }}").contains("tears"));
        refused("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}");
        refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    }
}
