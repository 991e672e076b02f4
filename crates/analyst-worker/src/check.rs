//! What a text must be before it costs anything.

use tonic::Status;
use understudy_protocol::status::bad_request;

/// Longest text in characters (Unicode scalar values), as the contract says.
pub const CHARACTERS_MAX: usize = 10_000;

/// Checks one text; `field` is its name in the request.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub fn text(field: &str, text: &str) -> Result<(), Status> {
    if text.is_empty() {
        return Err(bad_request(field, "must not be empty"));
    }
    if text.len() > CHARACTERS_MAX {
        let count = text.chars().count();
        if count > CHARACTERS_MAX {
            return Err(bad_request(
                field,
                &format!("has {count} characters; at most {CHARACTERS_MAX} are allowed"),
            ));
        }
    }
    if text.chars().all(char::is_whitespace) {
        return Err(bad_request(field, "must not be only white space"));
    }
    Ok(())
}

/// Checks the texts of a batch.
///
/// # Errors
/// INVALID_ARGUMENT that names the first bad text, e.g. `texts[3]`.
pub fn texts(texts: &[String], batch_max: usize) -> Result<(), Status> {
    if texts.is_empty() {
        return Err(bad_request("texts", "must not be empty"));
    }
    if texts.len() > batch_max {
        let problem = format!(
            "has {} texts; at most {batch_max} are allowed: split the batch, or stream",
            texts.len()
        );
        return Err(bad_request("texts", &problem));
    }
    texts
        .iter()
        .enumerate()
        .try_for_each(|(index, one)| text(&format!("texts[{index}]"), one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_in_characters_not_bytes() {
        for good in ["a", " a ", &"é".repeat(CHARACTERS_MAX), &"a".repeat(CHARACTERS_MAX)] {
            assert!(text("text", good).is_ok());
        }
        for bad in [
            "",
            " \t\n\u{3000}\u{a0}",
            &"é".repeat(CHARACTERS_MAX + 1),
            &"a".repeat(CHARACTERS_MAX + 1),
        ] {
            assert!(text("text", bad).is_err());
        }
    }

    #[test]
    fn the_bad_text_is_named() {
        let error = texts(&["a".to_owned(), String::new()], 32).unwrap_err();
        assert_eq!(error.message(), "texts[1]: must not be empty");
        assert!(texts(&[], 32).is_err());
        assert!(
            texts(&vec!["a".to_owned(); 33], 32)
                .unwrap_err()
                .message()
                .starts_with("texts: has 33 texts")
        );
        assert!(texts(&vec!["a".to_owned(); 32], 32).is_ok());
    }
}
