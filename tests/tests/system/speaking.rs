//! One call in any of the edge's protocols: REST by the method's own route, gRPC-Web with protobuf, Connect with JSON.

use anyhow::Context as _;
use anyhow::ensure;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::MethodDescriptor;
use serde_json::Map;
use serde_json::Value;

use crate::client::Answer;
use crate::client::Api;
use crate::client::method_descriptor;

/// What a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Rest,
    GrpcWeb,
    Connect,
}

/// Somebody who calls, and how.
#[derive(Debug, Clone)]
pub struct Speaker {
    pub api: Api,
    pub protocol: Protocol,
}

/// A request as its method's route has it.
struct Routed {
    verb: &'static str,
    path: String,
    body: Option<Value>,
    /// The field of the response that the answer's body is; none: it is the response.
    answers_with: Option<String>,
}

impl Speaker {
    /// The same way of speaking, with another secret.
    pub fn with_key(&self, key: &str) -> Self {
        Self { api: self.api.with_key(key), protocol: self.protocol }
    }

    /// Calls `package.Service/Method` with the request as JSON; gives the response as JSON.
    pub async fn call(&self, method: &str, request: Value) -> anyhow::Result<Value> {
        self.call_under(method, request, None).await
    }

    /// The same under an idempotency key.
    pub async fn call_under(
        &self,
        method: &str,
        request: Value,
        key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let descriptor = method_descriptor(method);
        let bearer = format!("Bearer {}", self.api.key);
        let mut headers: Vec<(&str, &str)> =
            key.map(|key| ("idempotency-key", key)).into_iter().collect();
        if !self.api.key.is_empty() {
            headers.push(("authorization", &bearer));
        }
        match self.protocol {
            Protocol::Rest => {
                let routed = routed(&descriptor, request)?;
                headers
                    .extend(routed.body.is_some().then_some(("content-type", "application/json")));
                let body = routed.body.map(|body| body.to_string()).unwrap_or_default();
                let answer = self.api.http(routed.verb, &routed.path, &headers, body).await?;
                let json = read(method, &answer)?;
                Ok(match routed.answers_with {
                    None => json,
                    Some(field) => Value::Object(Map::from_iter([(field, json)])),
                })
            }
            Protocol::Connect => {
                headers.extend([
                    ("content-type", "application/json"),
                    ("connect-protocol-version", "1"),
                ]);
                let path = format!("/{method}");
                let answer = self.api.http("POST", &path, &headers, request.to_string()).await?;
                read(method, &answer)
            }
            Protocol::GrpcWeb => {
                let message = DynamicMessage::deserialize(descriptor.input(), request)?;
                let message = message.encode_to_vec();
                let mut frame = vec![0];
                frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
                frame.extend_from_slice(&message);
                headers.push(("content-type", "application/grpc-web+proto"));
                let path = format!("/{method}");
                let answer = self.api.http("POST", &path, &headers, frame).await?;
                ensure!(answer.status == 200, "{method}: {answer:?}");
                let message =
                    only_message(&answer).with_context(|| format!("{method}: {answer:?}"))?;
                let response = DynamicMessage::decode(descriptor.output(), message)?;
                Ok(serde_json::to_value(&response)?)
            }
        }
    }
}

fn read(method: &str, answer: &Answer) -> anyhow::Result<Value> {
    ensure!(answer.status == 200, "{method}: {answer:?}");
    Ok(answer.json())
}

/// The one message of an answer whose trailers say that all went well.
fn only_message(answer: &Answer) -> anyhow::Result<&[u8]> {
    let (head, rest) = answer.body.split_at_checked(5).context("no frame")?;
    let length = usize::try_from(u32::from_be_bytes(head[1..].try_into()?))?;
    let (message, rest) = rest.split_at_checked(length).context("a cut frame")?;
    let trailers = rest.get(5..).context("no trailers")?;
    let is_well =
        String::from_utf8_lossy(trailers).lines().any(|line| line.trim() == "grpc-status: 0");
    ensure!(head[0] == 0 && rest[0] == 0x80 && is_well, "it failed");
    Ok(message)
}

/// Puts a request where its `google.api.http` says: path, body, and query for the rest.
fn routed(method: &MethodDescriptor, request: Value) -> anyhow::Result<Routed> {
    let http =
        proto::DESCRIPTORS.get_extension_by_name("google.api.http").context("annotations")?;
    let options = method.options();
    let rule = options.get_extension(&http);
    let rule = rule.as_message().context("no route")?;
    let text = |field: &str| -> String {
        let value = rule.get_field_by_name(field);
        value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let verbs = [("get", "GET"), ("post", "POST"), ("patch", "PATCH"), ("delete", "DELETE")];
    let (field, verb) =
        verbs.into_iter().find(|(field, _)| rule.has_field_by_name(field)).context("no verb")?;
    let Value::Object(mut fields) = request else { anyhow::bail!("a request is an object") };

    let (mut path, template) = (String::new(), text(field));
    let mut rest = template.as_str();
    while let Some((before, variable)) = rest.split_once('{') {
        let (variable, behind) = variable.split_once('}').context("an open variable")?;
        let name = variable.split('=').next().unwrap_or_default();
        let bound = match name.split_once('.') {
            None => fields.remove(name),
            Some((outer, inner)) => {
                fields.get_mut(outer).and_then(|outer| outer.as_object_mut()?.remove(inner))
            }
        };
        let bound = bound.with_context(|| format!("{name} is not in the request"))?;
        path = path + before + bound.as_str().context("a name is a text")?;
        rest = behind;
    }
    path += rest;
    let body = match text("body").as_str() {
        "" => None,
        "*" => Some(Value::Object(std::mem::take(&mut fields))),
        field => {
            let field = method.input().get_field_by_name(field).context("a body's field")?;
            fields.remove(field.json_name())
        }
    };
    for (nth, (name, value)) in fields.iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        path += &format!("{}{name}={value}", if nth == 0 { '?' } else { '&' });
    }
    let answers_with = method.output().get_field_by_name(&text("response_body"));
    let answers_with = answers_with.map(|field| field.json_name().to_owned());
    Ok(Routed { verb, path, body, answers_with })
}
