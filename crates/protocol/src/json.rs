//! Protobuf JSON of the registry's records.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};

#[expect(clippy::expect_used, reason = "the bytes are this crate's own")]
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(super::FILE_DESCRIPTOR_SET).expect("embedded descriptors are valid"));

/// A record that is not protobuf JSON of its message.
#[derive(Debug, thiserror::Error)]
#[error("not a valid {message}: {reason}")]
pub struct Error {
    message: String,
    reason: String,
}

impl Error {
    fn new<M: Name>(reason: impl ToString) -> Self {
        Self {
            message: M::NAME.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Writes a message of this contract as indented protobuf JSON. Enums are names, 64-bit numbers are strings, defaults
/// are left out.
///
/// # Errors
/// If the message is not of this contract or holds a timestamp out of range.
pub fn to_string<M: Name>(message: &M) -> Result<String, Error> {
    let descriptor = POOL
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| Error::new::<M>("unknown message"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(Error::new::<M>)?;
    let mut json = Vec::new();
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::pretty(&mut json), &SerializeOptions::new())
        .map_err(Error::new::<M>)?;
    String::from_utf8(json).map_err(Error::new::<M>)
}

/// Reads a message of this contract from protobuf JSON. Fields that it does not know are skipped.
///
/// # Errors
/// If the text is no JSON or a known field has a value of another type.
pub fn from_slice<M: Name + Default>(json: &[u8]) -> Result<M, Error> {
    let descriptor = POOL
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| Error::new::<M>("unknown message"))?;
    let mut source = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let dynamic =
        DynamicMessage::deserialize_with_options(descriptor, &mut source, &options).map_err(Error::new::<M>)?;
    source.end().map_err(Error::new::<M>)?;
    dynamic.transcode_to().map_err(Error::new::<M>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Arm, Kind, Route};

    fn route() -> Route {
        Route {
            model: "sentiment".into(),
            kind: Kind::Analyst.into(),
            epoch: 7,
            arms: vec![Arm {
                name: "stable".into(),
                version: "v1".into(),
                weight_ppm: 1_000_000,
            }],
            ..Route::default()
        }
    }

    #[test]
    fn round_trip_is_readable() {
        let json = to_string(&route()).unwrap();
        assert!(
            json.contains("\"kind\": \"KIND_ANALYST\"") && json.contains("\"weightPpm\": 1000000"),
            "{json}"
        );
        assert_eq!(from_slice::<Route>(json.as_bytes()).unwrap(), route());
    }

    #[test]
    fn unknown_fields_are_skipped_and_bad_values_refused() {
        let newer = r#"{"model":"m","epoch":"3","shadow":{"percent":5}}"#;
        assert_eq!(from_slice::<Route>(newer.as_bytes()).unwrap().epoch, 3);
        for bad in ["", "[]", r#"{"epoch":"x"}"#, r#"{"model":"m"} trailing"#] {
            assert!(from_slice::<Route>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
