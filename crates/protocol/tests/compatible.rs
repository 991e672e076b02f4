//! Rules 1 to 4 of `proto/README.md`, checked against the contract as last released.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, fs, path::Path};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

fn understudy_files(bytes: &[u8]) -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(bytes).unwrap();
    set.file
        .into_iter()
        .filter(|file| file.package().starts_with("understudy."))
        .collect()
}

/// Everything that clients and stored records rely on: a name for it, and its shape.
fn promises(files: &[FileDescriptorProto]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for file in files {
        for message in &file.message_type {
            message_promises(&format!("{}.{}", file.package(), message.name()), message, &mut all);
        }
        for r#enum in &file.enum_type {
            for value in &r#enum.value {
                all.insert(
                    format!("{}.{} {}", file.package(), r#enum.name(), value.number()),
                    value.name().to_owned(),
                );
            }
        }
        for service in &file.service {
            for method in &service.method {
                let streaming = (method.client_streaming(), method.server_streaming());
                all.insert(
                    format!("{}.{}/{}", file.package(), service.name(), method.name()),
                    format!("{} -> {} {streaming:?}", method.input_type(), method.output_type()),
                );
            }
        }
    }
    all
}

fn message_promises(path: &str, message: &DescriptorProto, all: &mut BTreeMap<String, String>) {
    all.insert(path.to_owned(), "message".to_owned());
    for field in &message.field {
        let shape = format!(
            "{} {:?} {:?} {}",
            field.name(),
            field.r#type(),
            field.label(),
            field.type_name()
        );
        all.insert(format!("{path} {}", field.number()), shape);
    }
    for nested in &message.nested_type {
        message_promises(&format!("{path}.{}", nested.name()), nested, all);
    }
}

/// A removed field is allowed when its number and name are reserved.
fn is_reserved(files: &[FileDescriptorProto], promise: &str, shape: &str) -> bool {
    let Some((path, number)) = promise.split_once(' ') else {
        return false;
    };
    let (Ok(number), name) = (number.parse::<i32>(), shape.split(' ').next().unwrap_or_default()) else {
        return false;
    };
    files.iter().any(|file| {
        file.message_type.iter().any(|message| {
            format!("{}.{}", file.package(), message.name()) == path
                && message
                    .reserved_range
                    .iter()
                    .any(|range| (range.start()..range.end()).contains(&number))
                && message.reserved_name.iter().any(|reserved| reserved == name)
        })
    })
}

fn broken(released: &[FileDescriptorProto], now: &[FileDescriptorProto]) -> Vec<String> {
    let current = promises(now);
    promises(released)
        .into_iter()
        .filter(|(promise, shape)| match current.get(promise) {
            Some(now_shape) => now_shape != shape,
            None => !is_reserved(now, promise, shape),
        })
        .map(|(promise, shape)| format!("{promise}: was `{shape}`, is {:?}", current.get(&promise)))
        .collect()
}

#[test]
fn sources_keep_every_released_promise() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/descriptors/understudy.v1.binpb");
    let released = understudy_files(&fs::read(path).unwrap());
    let now = understudy_files(understudy_protocol::FILE_DESCRIPTOR_SET);
    let broken = broken(&released, &now);
    assert!(
        broken.is_empty(),
        "incompatible changes of proto/ (see proto/README.md):\n{}",
        broken.join("\n")
    );
    let unreleased = promises(&now).len() - promises(&released).len();
    assert_eq!(
        unreleased, 0,
        "compatible additions are not yet in the released contract: run `make descriptors`"
    );
}

#[test]
fn each_rule_is_enforced() {
    let released = understudy_files(understudy_protocol::FILE_DESCRIPTOR_SET);
    let change = |edit: fn(&mut DescriptorProto)| {
        let mut now = released.clone();
        let message = now
            .iter_mut()
            .flat_map(|f| &mut f.message_type)
            .find(|m| m.name() == "Classification")
            .unwrap();
        edit(message);
        broken(&released, &now).len()
    };
    assert_eq!(change(|_| {}), 0);
    assert_eq!(change(|m| m.field[0].name = Some("class".into())), 1, "renamed");
    assert_eq!(change(|m| m.field[0].number = Some(99)), 1, "renumbered");
    assert_eq!(change(|m| m.field[1].r#type = Some(1)), 1, "retyped");
    assert_eq!(change(|m| drop(m.field.remove(0))), 1, "removed without reservation");
    let reserve = |m: &mut DescriptorProto| {
        let field = m.field.remove(0);
        m.reserved_name.push(field.name().to_owned());
        m.reserved_range.push(prost_types::descriptor_proto::ReservedRange {
            start: field.number,
            end: field.number.map(|n| n + 1),
        });
    };
    assert_eq!(change(reserve), 0, "reserved");

    let mut now = released.clone();
    let service = now
        .iter_mut()
        .flat_map(|f| &mut f.service)
        .find(|s| s.name() == "Analyst")
        .unwrap();
    service.method[0].server_streaming = Some(true);
    assert_eq!(broken(&released, &now).len(), 1, "streaming changed");
}
