//! The limits that the protos state (`buf.validate`), beside those that the services keep: neither is made of the other, so every one of
//! them is tried, at the limit and beyond it.
//!
//! What must stay true: a limit that no public method is tried with is a failure, and so is a public method without a line in
//! [`requests`]. A value within its limit may be refused for another reason, such as that nothing has that name, but not as this
//! field's.

mod requests;
mod values;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use anyhow::ensure;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_reflect::FieldDescriptor;
use prost_reflect::Kind;
use prost_reflect::MessageDescriptor;
use prost_reflect::MethodDescriptor;
use prost_reflect::Value;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use transcode::Limits;

use crate::client::Api;
use crate::client::public_methods;
use crate::client::raw::RawCodec;
use requests::Fixture;
use requests::Line;

/// Whence the calls come: attempts to prove something are counted by network, and the other tests are on another one.
const NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 7, 7, 7));
/// Values of `google.api.FieldBehavior`.
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const IMMUTABLE: i32 = 5;
const IDENTIFIER: i32 = 8;

/// A field that states limits, and the way to it from the request.
struct Stated {
    path: Vec<FieldDescriptor>,
    limits: Limits,
    is_required: bool,
}

impl Stated {
    fn field(&self) -> &FieldDescriptor {
        self.path.last().expect("a path leads to a field")
    }

    /// As violations name it: `link.destination_uri`.
    fn name(&self) -> String {
        self.path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }
}

/// Tries every limit of every public method, in a workspace of `api`. `mails` is where the cluster writes mails.
pub async fn every_limit_that_a_proto_states_is_kept_by_its_service(
    api: &Api,
    mails: &Path,
) -> anyhow::Result<()> {
    let api = &api.at_address(NETWORK);
    let fixture = Fixture::make(api, mails).await?;
    let table = requests::table(&fixture);
    let endpoint = tonic::transport::Endpoint::from_shared(api.url.clone())?;
    let channel = endpoint.local_address(Some(NETWORK)).connect().await?;
    let mut tried = BTreeSet::new();
    let mut wrong = Vec::new();
    let methods: HashMap<String, MethodDescriptor> = public_methods()
        .into_iter()
        .filter(is_for_clients)
        .map(|method| {
            (format!("{}/{}", method.parent_service().full_name(), method.name()), method)
        })
        .collect();
    let listed: BTreeSet<&str> = table.iter().map(|line| line.method).collect();
    let missing: Vec<_> = methods.keys().filter(|name| !listed.contains(name.as_str())).collect();
    ensure!(missing.is_empty(), "public, and without a line in the table: {missing:?}");
    for line in &table {
        let method = methods.get(line.method).with_context(|| line.method.to_owned())?;
        let caller = Wire { channel: channel.clone(), key: fixture.key_of(line.caller) };
        wrong.extend(try_method(&caller, method, line, &mut tried).await?);
    }
    for message in proto::DESCRIPTORS.all_messages() {
        for field in message.fields() {
            let limits = Limits::of(&field).map_err(anyhow::Error::msg)?;
            if limits.is_some() && !tried.contains(field.full_name()) {
                wrong.push(format!("{}: stated, and tried with no method", field.full_name()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} limits are not as stated:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(tried.len() > 100, "{} fields are not all of them", tried.len());
    Ok(())
}

fn is_for_clients(method: &MethodDescriptor) -> bool {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    rpc::Requirement::of_path(&path).is_some_and(|asks| asks != rpc::Requirement::Operator)
}

/// What is not as stated.
async fn try_method(
    caller: &Wire,
    method: &MethodDescriptor,
    line: &Line,
    tried: &mut BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    let base = DynamicMessage::deserialize(method.input(), line.request.clone())
        .with_context(|| line.method.to_owned())?;
    let mut stated = Vec::new();
    collect(&base, &method.input(), &[], line, &mut stated)?;
    let mut wrong = Vec::new();
    for oneof in method.input().oneofs().filter(transcode::is_one_required) {
        let mut request = base.clone();
        oneof.fields().for_each(|field| request.clear_field(&field));
        let status = caller.ask(method, &request).await.err();
        if !status.as_ref().is_some_and(|status| names(status, oneof.name())) {
            wrong.push(format!(
                "{} {}: none of it is taken: {status:?}",
                line.method,
                oneof.name()
            ));
        }
    }
    let mut asks = Vec::new();
    for of in &stated {
        tried.insert(of.field().full_name().to_owned());
        let given = get(&base, &of.path);
        let beyond = values::beyond(of.field(), &of.limits, given.as_ref(), of.is_required);
        asks.extend(beyond.into_iter().map(|value| (of, value, true)));
    }
    for of in &stated {
        let given = get(&base, &of.path);
        let within = values::within(of.field(), &of.limits, given.as_ref());
        asks.extend(within.into_iter().map(|value| (of, value, false)));
    }
    for (of, value, is_refused) in asks {
        let mut request = base.clone();
        let shown = values::shown(&value);
        set(&mut request, &of.path, value);
        let status = caller.ask(method, &request).await.err();
        let names = status.as_ref().is_some_and(|status| names(status, &of.name()));
        let is_invalid =
            status.as_ref().is_some_and(|status| status.code() == Code::InvalidArgument);
        if is_refused != names || (is_refused && !is_invalid) {
            let wanted = if is_refused { "refused" } else { "taken" };
            let said = status.map(|status| format!("{:?} {}", status.code(), status.message()));
            let (method, field) = (line.method, of.name());
            wrong.push(format!("{method} {field} = {shown}: not {wanted}: {said:?}"));
        }
    }
    Ok(wrong)
}

/// The fields of a request that state limits. The items of a list of messages are another method's to try.
fn collect(
    base: &DynamicMessage,
    message: &MessageDescriptor,
    path: &[FieldDescriptor],
    line: &Line,
    into: &mut Vec<Stated>,
) -> anyhow::Result<()> {
    // Of a resource that is changed, what can't be changed is not looked at.
    let is_change = line.method.contains("/Update") && !path.is_empty();
    for field in message.fields() {
        let behavior = behavior(&field);
        let path: Vec<_> = path.iter().cloned().chain([field.clone()]).collect();
        let is_name = behavior.contains(&IDENTIFIER);
        let is_set = get(base, &path).is_some();
        let is_left_out = behavior.contains(&OUTPUT_ONLY)
            || (is_name && !is_set)
            || (is_change && behavior.contains(&IMMUTABLE));
        if is_left_out {
            continue;
        }
        let is_required = behavior.contains(&REQUIRED) || is_name;
        if let Some(limits) = Limits::of(&field).map_err(anyhow::Error::msg)? {
            into.push(Stated { path, limits, is_required });
        } else if let Kind::Message(inner) = field.kind()
            && !field.is_list()
            && inner.package_name().starts_with("linkmesh.")
        {
            collect(base, &inner, &path, line, into)?;
        }
    }
    Ok(())
}

fn behavior(field: &FieldDescriptor) -> Vec<i32> {
    let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
    let options = field.options();
    let said = extension.map(|extension| options.get_extension(&extension).into_owned());
    let list = said.as_ref().and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_enum_number).collect()
}

/// What a request has there; none for what is not set.
fn get(message: &DynamicMessage, path: &[FieldDescriptor]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    if !message.has_field(first) {
        return None;
    }
    let value = message.get_field(first).into_owned();
    if rest.is_empty() { Some(value) } else { get(value.as_message()?, rest) }
}

fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        message.set_field(first, value);
    } else if let Some(inner) = message.get_field_mut(first).as_message_mut() {
        set(inner, rest, value);
    }
}

/// Whether a refusal is about this field.
fn names(status: &Status, field: &str) -> bool {
    let request = status.get_details_bad_request();
    request.is_some_and(|request| request.field_violations.iter().any(|said| said.field == field))
}

/// Somebody who calls by gRPC.
struct Wire {
    channel: Channel,
    key: String,
}

impl Wire {
    /// Calls; of a stream the first message is an answer.
    async fn ask(&self, method: &MethodDescriptor, message: &DynamicMessage) -> Result<(), Status> {
        let name = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = name.parse().expect("a method's name is a path");
        let mut request = tonic::Request::new(message.encode_to_vec().into());
        request.set_timeout(crate::client::CALL_TIMEOUT);
        if !self.key.is_empty() {
            let bearer = format!("Bearer {}", self.key).parse().expect("a key is a header");
            request.metadata_mut().insert("authorization", bearer);
        }
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        if method.is_server_streaming() {
            let mut answers = client.server_streaming(request, path, RawCodec).await?.into_inner();
            answers.message().await.map(drop)
        } else {
            client.unary(request, path, RawCodec).await.map(drop)
        }
    }
}
