//! The error forms that a client has to ask for: `google.rpc.Status` in JSON, and AIP-193's.

use super::Object;
use super::Problem;
use crate::accept;
use crate::error::JsonError;
use crate::schema::Schema;
use crate::to_json::WriteOptions;
use crate::wire;
use crate::wire::WireType;
use bytes::Bytes;

/// How an error is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    /// RFC 9457: for whoever does not ask for another.
    Problem,
    /// `google.rpc.Status` in JSON, with the gRPC code.
    Status,
    /// AIP-193: `{"error": {…}}` with the HTTP status, the code's name, and the details.
    Aip193,
}

impl ErrorForm {
    /// The one that an `Accept` header likes most.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let forms = [Self::Problem, Self::Status, Self::Aip193];
        let wanted = accept::essences(accept);
        let mut known = wanted
            .iter()
            .filter_map(|(essence, _)| forms.iter().find(|form| form.media_type() == essence));
        known.next().copied().unwrap_or(Self::Problem)
    }

    /// What `Content-Type` says, and `Accept` asks for it by. Google has registered none for its forms.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Problem => Problem::MEDIA_TYPE,
            Self::Status => "application/vnd.google.rpc.status+json",
            Self::Aip193 => "application/vnd.google.aip-193+json",
        }
    }
}

// Field numbers of `google.rpc.Status`.
const CODE: u32 = 1;
const MESSAGE: u32 = 2;
pub(super) const DETAILS: u32 = 3;

const KEEPING: WriteOptions = WriteOptions {
    emits_defaults: false,
    uses_proto_names: false,
    uses_enum_numbers: false,
    is_pretty: false,
    keeps_unknown_any: true,
};

impl Problem {
    /// The body in one of the forms; see [`Problem::to_json`] for `type_base`. Details of types that the schema does not know
    /// keep their bytes.
    ///
    /// # Errors
    /// A detail is not what its type says. The problem form has no such error.
    pub fn body(
        &self,
        form: ErrorForm,
        schema: &Schema,
        type_base: &str,
    ) -> Result<Bytes, JsonError> {
        let mut out = Vec::new();
        match form {
            ErrorForm::Problem => return Ok(self.to_json(type_base)),
            ErrorForm::Status => {
                let status = schema.message("google.rpc.Status").expect("every schema has it");
                schema.to_json(status, &self.to_status(), KEEPING, &mut out)?;
            }
            ErrorForm::Aip193 => self.put_aip193(schema, &mut out)?,
        }
        Ok(out.into())
    }

    fn put_aip193(&self, schema: &Schema, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let mut object = Object::open(out);
        object.key("error");
        let mut error = Object::open(object.out);
        error.number("code", self.status.as_u16());
        error.text("message", &self.detail);
        error.text("status", self.code);
        if !self.details.is_empty() {
            error.key("details");
            let status = schema.message("google.rpc.Status").expect("every schema has it");
            let details = schema.messages[status.0].index_by_number(DETAILS);
            let details = details.expect("a test compares it with its source");
            schema.field_to_json(status, details, &self.to_status(), KEEPING, error.out)?;
        }
        error.close();
        object.close();
        Ok(())
    }

    /// As an encoded `google.rpc.Status`.
    #[must_use]
    pub fn to_status(&self) -> Vec<u8> {
        let mut out = Vec::new();
        wire::Tag::new(CODE, WireType::Varint).put(&mut out);
        wire::put_varint(&mut out, i64::from(self.grpc_code).cast_unsigned());
        wire::Tag::new(MESSAGE, WireType::Delimited).put(&mut out);
        wire::put_delimited(&mut out, self.detail.as_bytes());
        for any in &self.details {
            wire::Tag::new(DETAILS, WireType::Delimited).put(&mut out);
            wire::put_delimited(&mut out, any);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc;
    use super::*;
    use prost::Message as _;
    use serde_json::Value;
    use serde_json::json;

    fn status(details: Vec<rpc::Any>) -> Problem {
        let status = rpc::Status { code: 5, message: String::new(), details };
        Problem::from_status(5, "gone", &status.encode_to_vec())
    }

    fn any(name: &str, value: Vec<u8>) -> rpc::Any {
        rpc::Any { type_url: format!("type.googleapis.com/{name}"), value }
    }

    #[test]
    fn r26_googles_forms_have_the_details_each_type_once_and_none_is_lost() {
        let info = |reason: &str| {
            let info = rpc::ErrorInfo { reason: reason.to_owned(), ..rpc::ErrorInfo::default() };
            any("google.rpc.ErrorInfo", info.encode_to_vec())
        };
        let problem = status(vec![
            info("FIRST"),
            info("SECOND"),
            any("google.rpc.DebugInfo", b"\x12\x06secret".to_vec()),
            any("google.rpc.LocalizedMessage", b"\x0a\x02de\x12\x03weg".to_vec()),
            any("unknown.Detail", vec![8, 1]),
        ]);
        let schema = Schema::new(&prost_reflect::DescriptorPool::new());
        let body = |form| {
            let body = problem.body(form, &schema, "x").expect("it has a JSON form");
            serde_json::from_slice::<Value>(&body).expect("JSON")
        };
        let details = json!([
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "FIRST"},
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "de", "message": "weg"},
            {"@type": "type.googleapis.com/unknown.Detail", "value": "CAE="},
        ]);
        let expected = json!({"code": 5, "message": "gone", "details": details});
        assert_eq!(body(ErrorForm::Status), expected);
        let expected = json!({"error": {
            "code": 404, "message": "gone", "status": "NOT_FOUND", "details": details,
        }});
        assert_eq!(body(ErrorForm::Aip193), expected);
        assert_eq!(body(ErrorForm::Problem)["reason"], "FIRST");
    }

    #[test]
    fn r28_problem_json_is_the_default_and_the_others_are_asked_for() {
        for (accept, form) in [
            (None, ErrorForm::Problem),
            (Some("*/*"), ErrorForm::Problem),
            (Some("application/json"), ErrorForm::Problem),
            (Some("application/vnd.google.rpc.status+json"), ErrorForm::Status),
            (Some("text/html, application/vnd.google.aip-193+json;q=0.5"), ErrorForm::Aip193),
            (
                Some(
                    "application/problem+json;q=0.4, application/vnd.google.rpc.status+json;q=0.6",
                ),
                ErrorForm::Status,
            ),
        ] {
            assert_eq!(ErrorForm::accepted(accept), form, "{accept:?}");
        }
    }
}
