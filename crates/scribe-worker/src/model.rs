//! A model in memory: its weights, its vocabulary, and how it wants messages.

use std::{path::Path, thread};

use llama_cpp_2::{
    model::{LlamaModel, VocabType},
    token::LlamaToken,
};

use crate::{
    backend::{Backend, Place},
    engine::{EngineError, Info, Input},
    memory::Sizes,
    template::{Part, Template},
};

/// Bytes of text for each token of the context that may be worth tokenising. Words have four or five, and long runs of
/// blanks tokens of their own.
const BYTES_PER_TOKEN_MAX: usize = 32;

/// Tokenising goes through regular expressions that recurse along the text. Longer texts are tokenised on a thread with
/// room for that.
const SHORT_TEXT_BYTES: usize = 1024;
const STACK_BYTES_PER_BYTE: usize = 2048;

/// A model that was loaded.
pub struct Model {
    pub(crate) llama: LlamaModel,
    pieces: Pieces,
    template: Template,
    bos: Option<u32>,
    sentencepiece: bool,
    info: Info,
}

/// The bytes of every token.
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    end_of_generation: Vec<bool>,
    special: Vec<Vec<u8>>,
}

impl Model {
    /// Loads a file that was checked.
    ///
    /// # Errors
    /// If llama.cpp cannot, which it tells only the log.
    pub fn load(
        backend: &Backend,
        place: &Place,
        path: &Path,
        file: &understudy_gguf::Model,
        sizes: Sizes,
    ) -> Result<Self, String> {
        let params = place.model_params()?;
        let llama = LlamaModel::load_from_file(&backend.llama, path, &params)
            .map_err(|error| format!("llama.cpp cannot load it ({error}); the log has its words"))?;
        let pieces = Pieces::new(&llama);
        let vocab = llama.vocab();
        let text = |token: LlamaToken| vocab.token_to_piece(token, true, None);
        let special = |token: Option<u32>| {
            let token = token.and_then(|token| i32::try_from(token).ok()).map(LlamaToken::new);
            token.map_or_else(String::new, |token| String::from_utf8_lossy(&text(token)).into_owned())
        };
        let (bos, eos) = (special(file.bos), special(file.eot.or(file.eos)));
        let template = Template::new(file.chat_template.as_deref(), bos, eos, &llama);
        let info = Info {
            name: file.name.clone().unwrap_or_default(),
            architecture: file.architecture.clone(),
            parameters: file.parameters,
            quantization: file.quantization.clone(),
            context_tokens: sizes.context_tokens,
            slots: sizes.slots,
            device: place.to_string(),
        };
        Ok(Self {
            bos: file.bos.filter(|_| vocab.should_add_bos()),
            sentencepiece: vocab.vocab_type() == VocabType::SPM,
            pieces,
            template,
            info,
            llama,
        })
    }

    /// What it is.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Tokens of its vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.pieces.ends.len()).unwrap_or(u32::MAX)
    }

    /// The text of a token; nothing for special ones.
    #[must_use]
    pub fn piece(&self, token: u32) -> &[u8] {
        self.pieces.get(token as usize)
    }

    /// Whether a token ends the text.
    #[must_use]
    pub fn ends(&self, token: u32) -> bool {
        self.pieces
            .end_of_generation
            .get(token as usize)
            .copied()
            .unwrap_or(false)
    }

    /// The tokens of a request's input, with one begin-of-text token if the model wants it.
    ///
    /// # Errors
    /// If it is too long for sure, or the template refuses it.
    pub fn tokens(&self, input: &Input) -> Result<Vec<u32>, EngineError> {
        let (field, parts) = match input {
            Input::Prompt(prompt) => ("prompt", vec![Part::Text(prompt.clone())]),
            Input::Chat(messages) => {
                // Before the template runs over it.
                self.check_length(
                    "chat.messages",
                    messages.iter().map(|message| message.content.len()).sum(),
                )?;
                let parts = self.template.render(messages, &self.llama);
                let reason = |reason| EngineError::BadRequest {
                    field: "chat.messages",
                    reason,
                };
                ("chat.messages", parts.map_err(reason)?)
            }
        };
        let bytes = parts.iter().map(|part| part.text().len()).sum();
        self.check_length(field, bytes)?;
        let tokenise = || self.tokenise(&parts);
        if bytes <= SHORT_TEXT_BYTES {
            return Ok(tokenise());
        }
        thread::scope(|scope| {
            let stack = STACK_BYTES_PER_BYTE.saturating_mul(bytes).max(8 << 20);
            let builder = thread::Builder::new().name("tokenise".to_owned()).stack_size(stack);
            let tokens = builder
                .spawn_scoped(scope, tokenise)
                .map(thread::ScopedJoinHandle::join);
            match tokens {
                Ok(Ok(tokens)) => Ok(tokens),
                _ => Err(EngineError::Failed("the text could not be tokenised".to_owned())),
            }
        })
    }

    fn check_length(&self, field: &'static str, bytes: usize) -> Result<(), EngineError> {
        let context = self.info.context_tokens;
        let most = BYTES_PER_TOKEN_MAX.saturating_mul(context as usize);
        if bytes <= most {
            return Ok(());
        }
        Err(EngineError::BadRequest {
            field,
            reason: format!(
                "has {bytes} bytes, which do not fit into the context of {context} tokens: at most {most} bytes are taken in"
            ),
        })
    }

    fn tokenise(&self, parts: &[Part]) -> Vec<u32> {
        let vocab = self.llama.vocab();
        let mut tokens = Vec::new();
        let mut add = |text: &str, special: bool| tokens.extend(vocab.tokenize(text.as_bytes(), false, special));
        // SentencePiece puts a blank before whatever is tokenised by itself, so there a text that cannot be mistaken for
        // special tokens is not taken apart.
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_bytes()),
            Part::Template(_) => None,
        });
        if self.sentencepiece && parts.len() > 1 && !texts.into_iter().any(|text| self.pieces.special_in(text)) {
            let whole: String = parts.iter().map(Part::text).collect();
            add(&whole, true);
        } else {
            for part in parts {
                match part {
                    Part::Template(text) => add(text, true),
                    Part::Text(text) => add(text, false),
                }
            }
        }
        let mut tokens: Vec<u32> = tokens
            .into_iter()
            .filter_map(|token| u32::try_from(token.0).ok())
            .collect();
        if let Some(bos) = self.bos
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }
}

impl Pieces {
    fn new(llama: &LlamaModel) -> Self {
        let vocab = llama.vocab();
        let mut pieces = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            end_of_generation: Vec::new(),
            special: Vec::new(),
        };
        for token in (0..vocab.n_tokens()).map(LlamaToken::new) {
            pieces.end_of_generation.push(vocab.is_eog(token));
            // What ends the text is not of it.
            if !vocab.is_eog(token) {
                pieces.bytes.extend(vocab.token_to_piece(token, false, None));
            }
            pieces.ends.push(pieces.bytes.len());
            if vocab.is_control(token) || vocab.is_eog(token) {
                pieces.special.push(vocab.token_to_piece(token, true, None));
            }
        }
        pieces.special.retain(|text| !text.is_empty());
        pieces
    }

    fn get(&self, token: usize) -> &[u8] {
        let begin = token
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0);
        self.ends
            .get(token)
            .and_then(|end| self.bytes.get(begin..*end))
            .unwrap_or_default()
    }

    fn special_in(&self, text: &[u8]) -> bool {
        self.special
            .iter()
            .any(|special| text.windows(special.len()).any(|part| part == special.as_slice()))
    }
}
