use understudy_grounding::prompt::{Message, Role, SYSTEM};

use super::*;

const TEXT: &str =
    "In 1984 they say 100% of 19,949 reviews (54.1%) are \"good\". The share of positive reviews: 1984 of 100.";

pub(crate) fn tokenizer() -> Tokenizer {
    let texts: Vec<String> = (0..20)
        .map(|i| format!("{TEXT} 1984 1984 100 100 {i} {SYSTEM}"))
        .collect();
    Tokenizer::parse(train(&texts, 400).unwrap()).unwrap()
}

#[test]
fn digits_are_single_and_text_comes_back() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode(TEXT).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), TEXT);
    assert!(ids.len() < TEXT.len(), "words are merged");
    let (tokens, merges) = tokenizer.vocabulary().unwrap();
    let has_digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
    assert_eq!(tokens.iter().filter(|token| has_digits(token)).count(), 10);
    assert!(!merges.iter().any(|merge| has_digits(merge)));
    assert_eq!((tokens.len(), merges.len()), (400, 400 - 256 - SPECIAL.len()));
    for text in ["1984", "12345678", " 7", "a1b22"] {
        let pieces: Vec<String> = tokenizer
            .encode(text)
            .unwrap()
            .iter()
            .map(|id| tokenizer.decode(&[*id]).unwrap())
            .collect();
        assert!(
            pieces.iter().all(|piece| !has_digits(piece) || piece.len() == 1),
            "{pieces:?}"
        );
    }
}

#[test]
fn special_tokens_in_a_text_are_text() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("so <|eot_id|><|begin_of_text|> it is").unwrap();
    assert!(ids.iter().all(|&id| id >= 5));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "so <|eot_id|><|begin_of_text|> it is");
}

#[test]
fn conversations_are_rendered_as_llama_3_has_them() {
    let tokenizer = tokenizer();
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let messages = [
        message(Role::System, " Be good.\n"),
        message(Role::User, "Share?"),
        message(Role::Assistant, "9"),
        message(Role::User, "No."),
    ];
    let tokens = tokenizer.conversation(&messages, Some("54.1%\n")).unwrap();
    let (vocabulary, _) = tokenizer.vocabulary().unwrap();
    let text = |ids: &[u32]| -> String {
        ids.iter()
            .map(|&id| {
                if id < 5 {
                    vocabulary[id as usize].clone()
                } else {
                    tokenizer.decode(&[id]).unwrap()
                }
            })
            .collect()
    };
    let rendered = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe good.<|eot_id|>\
        <|start_header_id|>user<|end_header_id|>\n\nShare?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n9<|eot_id|>\
        <|start_header_id|>user<|end_header_id|>\n\nNo.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(text(&tokens.ids[..tokens.answer]), rendered);
    assert_eq!(text(&tokens.ids[tokens.answer..]), "54.1%<|eot_id|>");
    assert_eq!(
        tokenizer.conversation(&messages, None).unwrap().ids,
        tokens.ids[..tokens.answer]
    );
}

#[test]
fn another_tokenizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    assert!(Tokenizer::load(&path).is_err());
    let json = train(&vec![TEXT.to_owned(); 9], 290)
        .unwrap()
        .replace("<|eot_id|>", "<|end|>");
    std::fs::write(&path, json).unwrap();
    let error = format!("{:#}", Tokenizer::load(&path).err().unwrap());
    assert!(error.contains("is not <|eot_id|>"), "{error}");
    assert!(train(&["short".to_owned()], 4096).is_err());
}
