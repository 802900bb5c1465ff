//! A type on both sides: compiled, and by reflection.

use crate::excuses;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::DeserializeOptions;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use prost_reflect::SerializeOptions;
use serde_json::Value;
use std::sync::Arc;
use transcode::JsonError;
use transcode::MessageType;
use transcode::ReadOptions;
use transcode::Schema;
use transcode::TranscodeError;
use transcode::WriteOptions;

pub(crate) struct Side {
    schema: Arc<Schema>,
    message: MessageType,
    pub(crate) descriptor: MessageDescriptor,
}

impl Side {
    pub(crate) fn new(schema: &Arc<Schema>, descriptor: MessageDescriptor) -> Self {
        let message = schema.message(descriptor.full_name()).expect("the schema has all");
        Self { schema: Arc::clone(schema), message, descriptor }
    }

    pub(crate) fn json(&self, wire: &[u8], options: WriteOptions) -> Result<Vec<u8>, JsonError> {
        let mut json = Vec::new();
        self.schema.to_json(self.message, wire, options, &mut json).map(|()| json)
    }

    pub(crate) fn wire(
        &self,
        json: &[u8],
        options: ReadOptions,
    ) -> Result<Vec<u8>, TranscodeError> {
        let mut wire = Vec::new();
        self.schema.to_wire(self.message, json, options, &mut wire).map(|()| wire)
    }

    pub(crate) fn is_message(&self, wire: &[u8]) -> bool {
        self.schema.is_message(self.message, wire)
    }

    /// What reflection writes, if it can.
    pub(crate) fn oracle_json(
        &self,
        message: &DynamicMessage,
        options: WriteOptions,
    ) -> Option<Vec<u8>> {
        let serialize = SerializeOptions::new()
            .skip_default_fields(!options.emits_defaults)
            .use_proto_field_name(options.uses_proto_names)
            .use_enum_numbers(options.uses_enum_numbers);
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut json);
        message.serialize_with_options(&mut serializer, &serialize).ok()?;
        Some(json)
    }

    /// Both write the same JSON of wire bytes, or none.
    pub(crate) fn compare_json(
        &self,
        wire: &[u8],
        options: WriteOptions,
    ) -> Result<(), TestCaseError> {
        let decoded = DynamicMessage::decode(self.descriptor.clone(), wire).ok();
        if decoded.is_some() != self.is_message(wire) {
            let why = self.json(wire, options).err().map(|error| error.why);
            let excuse = why
                .filter(|_| decoded.is_some())
                .and_then(|why| excuses::for_no_message(&self.descriptor, &why));
            prop_assert!(excuse.is_some(), "a message to one only: {wire:x?}");
            return Ok(());
        }
        let oracle = decoded.and_then(|message| self.oracle_json(&message, options));
        let ours = self.json(wire, options);
        match (&ours, &oracle) {
            (Ok(ours), Some(oracle)) => {
                let (parsed, expected) = (parse(ours), parse(oracle));
                let (ours, oracle) =
                    (String::from_utf8_lossy(ours), String::from_utf8_lossy(oracle));
                let is_same =
                    matches!((&parsed, &expected), (Some(a), Some(b)) if excuses::is_same(a, b));
                prop_assert!(is_same, "ours {ours}\noracle {oracle}\nof {wire:x?}");
            }
            (Err(_), None) => {}
            (Ok(json), None) => {
                let json = String::from_utf8_lossy(json);
                let is_empty_any = json.contains("{}");
                // What a later value replaces is not looked at: it may be text that is not UTF-8.
                let is_replaced = !self.is_message(wire)
                    && self.wire(json.as_bytes(), ReadOptions::default()).is_ok();
                prop_assert!(
                    is_empty_any || is_replaced,
                    "written by ours only: {json} of {wire:x?}"
                );
            }
            (Err(error), Some(oracle)) => {
                let oracle = String::from_utf8_lossy(oracle);
                let excuse = excuses::for_refusal(&error.why);
                prop_assert!(excuse.is_some(), "not by ours: {error}: {oracle} of {wire:x?}");
            }
        }
        Ok(())
    }

    /// Both read the same message from JSON, or none.
    pub(crate) fn compare_wire(&self, json: &[u8]) -> Result<(), TestCaseError> {
        let oracle = self.oracle_message(json);
        let ours = self.wire(json, ReadOptions::default());
        let text = String::from_utf8_lossy(json);
        match (ours, oracle) {
            (Ok(wire), Ok(oracle)) => {
                let decoded = DynamicMessage::decode(self.descriptor.clone(), &*wire);
                let decoded =
                    decoded.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
                // Equal, and not only by what is written: NaN is not equal to itself.
                let is_equal =
                    decoded == oracle || self.oracle_value(&decoded) == self.oracle_value(&oracle);
                let excuse = || excuses::for_json(json);
                prop_assert!(
                    is_equal || excuse().is_some(),
                    "{text}\nours {decoded}\noracle {oracle}"
                );
            }
            (Err(_), Err(_)) => {}
            (Ok(wire), Err(error)) => {
                let excuse = excuses::for_json(json);
                prop_assert!(excuse.is_some(), "taken by ours only: {text}: {error}: {wire:x?}");
            }
            (Err(error), Ok(_)) => {
                let excuse = excuses::for_json(json);
                prop_assert!(excuse.is_some(), "refused by ours only: {text}: {error}");
            }
        }
        Ok(())
    }

    fn oracle_value(&self, message: &DynamicMessage) -> Option<Value> {
        parse(&self.oracle_json(message, WriteOptions::default())?)
    }

    fn oracle_message(&self, json: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let message = DynamicMessage::deserialize_with_options(
            self.descriptor.clone(),
            &mut deserializer,
            &options,
        )?;
        deserializer.end()?;
        // What it makes must be a message to itself: it is not strict with what it puts into an Any.
        DynamicMessage::decode(self.descriptor.clone(), &*message.encode_to_vec())
            .map_err(<serde_json::Error as serde::de::Error>::custom)
    }
}

fn parse(json: &[u8]) -> Option<Value> {
    serde_json::from_slice(json).ok()
}
