//! What was released stays readable: a message of the release before is understood by this one, and the other way round.
//!
//! `released.txt` lists every message, field, value and call of the last release. Additions are free. A field may go if its number
//! and its name are reserved; nothing changes its number, its type or its meaning (Protocol Buffers, "Updating a message type").
//! At a release the list is written anew: `cargo test -p wire --test evolution -- --ignored`.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/released.txt")
}

/// Names and numbers that a message may not use again.
#[derive(Debug, Default)]
struct Reserved {
    names: BTreeSet<String>,
    numbers: Vec<std::ops::Range<i32>>,
}

/// One line for everything that others rely on, and what each message reserves.
#[derive(Debug, Default)]
struct Interface {
    lines: BTreeSet<String>,
    reserved: BTreeMap<String, Reserved>,
}

impl Interface {
    fn of(types: &FileDescriptorSet) -> Self {
        let mut all = Self::default();
        for file in &types.file {
            let package = file.package();
            if !package.starts_with("shoal.") {
                continue;
            }
            for message in &file.message_type {
                all.message(package, message);
            }
            for values in &file.enum_type {
                all.values(package, values);
            }
            for service in &file.service {
                all.service(package, service);
            }
        }
        all
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.lines.insert(format!("message {name}"));
        for field in &message.field {
            self.lines.insert(of_field(&name, message, field));
        }
        let ranges = message.reserved_range.iter();
        let reserved = Reserved {
            names: message.reserved_name.iter().cloned().collect(),
            numbers: ranges.map(|r| r.start()..r.end()).collect(),
        };
        for inner in &message.nested_type {
            self.message(&name, inner);
        }
        for values in &message.enum_type {
            self.values(&name, values);
        }
        self.reserved.insert(name, reserved);
    }

    fn values(&mut self, scope: &str, values: &EnumDescriptorProto) {
        for value in &values.value {
            let (name, number) = (value.name(), value.number());
            self.lines
                .insert(format!("value {scope}.{} {number} {name}", values.name()));
        }
    }

    fn service(&mut self, scope: &str, service: &ServiceDescriptorProto) {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        for method in &service.method {
            self.lines.insert(format!(
                "call {scope}.{}/{} ({}{}) ({}{})",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            ));
        }
    }

    /// What of `released` is not there any more and should be.
    fn broken(&self, released: &str) -> Vec<String> {
        let lines = released.lines().filter(|line| !line.starts_with('#'));
        let gone = lines.filter(|line| !self.lines.contains(*line));
        gone.filter(|line| !self.is_retired(line))
            .map(str::to_owned)
            .collect()
    }

    /// True for a field whose number and name are reserved.
    fn is_retired(&self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let ["field", message, number, name, ..] = words.as_slice() else {
            return false;
        };
        let (Some(reserved), Ok(number)) = (self.reserved.get(*message), number.parse::<i32>())
        else {
            return false;
        };
        reserved.names.contains(*name) && reserved.numbers.iter().any(|r| r.contains(&number))
    }
}

fn of_field(message: &str, of: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let kind = field.r#type();
    let kind = if matches!(kind, Type::Message | Type::Enum) {
        field.type_name().to_owned()
    } else {
        format!("{kind:?}").to_lowercase()
    };
    let label = match (field.label(), field.proto3_optional()) {
        (Label::Repeated, _) => " repeated",
        (_, true) => " optional",
        _ => "",
    };
    let index = field.oneof_index.and_then(|n| usize::try_from(n).ok());
    let oneof = index
        .filter(|_| !field.proto3_optional())
        .and_then(|n| of.oneof_decl.get(n))
        .map_or_else(String::new, |oneof| format!(" in {}", oneof.name()));
    format!(
        "field {message} {} {} {kind}{label}{oneof}",
        field.number(),
        field.name()
    )
}

fn now() -> FileDescriptorSet {
    FileDescriptorSet::decode(wire::TYPES).unwrap()
}

#[test]
fn nothing_that_was_released_is_missing_or_means_something_else() {
    let released = std::fs::read_to_string(file()).unwrap();
    assert!(released.lines().count() > 100, "the list is a list");
    let broken = Interface::of(&now()).broken(&released);
    assert!(
        broken.is_empty(),
        "released and not there any more, reserve the number and the name of a field that goes:\n{}",
        broken.join("\n")
    );
}

/// The message of some field that is neither the only one nor in a oneof.
fn victim(types: &mut FileDescriptorSet) -> &mut DescriptorProto {
    let messages = types.file.iter_mut().flat_map(|f| &mut f.message_type);
    let mut large = messages.filter(|m| m.field.len() > 2);
    large.find(|m| m.name() == "Reading").unwrap()
}

#[test]
fn changes_that_break_others_are_found() {
    let released: Vec<String> = Interface::of(&now()).lines.into_iter().collect();
    let released = released.join("\n");
    let broken = |change: &dyn Fn(&mut DescriptorProto)| {
        let mut types = now();
        change(victim(&mut types));
        Interface::of(&types).broken(&released)
    };
    assert!(broken(&|_| ()).is_empty());
    assert_eq!(broken(&|m| m.field[0].number = Some(99)).len(), 1);
    assert_eq!(broken(&|m| m.field[0].set_type(Type::Bytes)).len(), 1);
    assert_eq!(broken(&|m| m.field[0].set_label(Label::Repeated)).len(), 1);
    assert_eq!(broken(&|m| drop(m.field.remove(0))).len(), 1);
    let retire = |m: &mut DescriptorProto| {
        let gone = m.field.remove(0);
        m.reserved_range
            .push(prost_types::descriptor_proto::ReservedRange {
                start: gone.number,
                end: gone.number.map(|n| n + 1),
            });
        m.reserved_name.push(gone.name().to_owned());
    };
    assert!(broken(&retire).is_empty(), "its number is not used again");
    let add = |m: &mut DescriptorProto| {
        let mut new = m.field[0].clone();
        new.number = Some(999);
        new.name = Some("new".to_owned());
        m.field.push(new);
    };
    assert!(broken(&add).is_empty(), "additions are free");
}

#[test]
#[ignore = "writes the list of a release"]
fn write_the_list_of_a_release() {
    let head = "# Every message, field, value and call of the last release; see crates/wire/tests/evolution.rs.\n";
    let lines: Vec<String> = Interface::of(&now()).lines.into_iter().collect();
    std::fs::write(file(), format!("{head}{}\n", lines.join("\n"))).unwrap();
}
