//! The header `Idempotency-Key`: over HTTP, what `request_id` is in a message.
//!
//! What must stay true: a service knows request ids alone, as a field of its request. So the key becomes that field, put behind the
//! rest of the encoded message; whoever states both must mean the same. Methods that change nothing have no such field, and the
//! header means nothing to them.

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use prost::encoding;
use prost::encoding::DecodeContext;
use prost::encoding::WireType;
use rpc::Error;
use rpc::request_id;

use crate::protocols::Method;

/// The field that holds a request id.
pub(crate) const FIELD: &str = "request_id";

/// The message, under the request id that the headers name.
///
/// # Errors
/// INVALID_FIELD for a key that is malformed or there twice, and for one beside another `request_id`.
pub(crate) fn identified(
    method: &Method,
    headers: &HeaderMap,
    message: Bytes,
) -> Result<Bytes, Error> {
    keyed(method.request_id, headers, message)
}

/// The same, of a method whose field this is the number of, if it has one.
pub(crate) fn keyed(
    request_id: Option<u32>,
    headers: &HeaderMap,
    message: Bytes,
) -> Result<Bytes, Error> {
    let Some(number) = request_id else { return Ok(message) };
    let mut keys = headers.get_all(request_id::HEADER).iter();
    let Some(key) = keys.next() else { return Ok(message) };
    if keys.next().is_some() {
        return Err(Error::invalid(request_id::HEADER, "must be there once"));
    }
    let id = request_id::of_key(key.to_str().unwrap_or_default())?;
    match stated(number, message.clone())? {
        Some(stated) if request_id::optional(&stated)? == Some(id) => return Ok(message),
        Some(_) => {
            let why = format!("must be the same as `{FIELD}` in the message, if that is there");
            return Err(Error::invalid(request_id::HEADER, why));
        }
        None => {}
    }
    let text = id.to_string();
    let mut whole = BytesMut::with_capacity(message.len() + text.len() + 8);
    whole.put(message);
    encoding::string::encode(number, &text, &mut whole);
    Ok(whole.freeze())
}

/// The request id that a message holds, if it holds any; of several the last one is meant.
fn stated(number: u32, mut message: Bytes) -> Result<Option<String>, Error> {
    let malformed = |_| Error::malformed("the body is not a message of the method's type");
    let mut stated = String::new();
    while message.has_remaining() {
        let (tag, wire_type) = encoding::decode_key(&mut message).map_err(malformed)?;
        let context = DecodeContext::default();
        if tag == number && wire_type == WireType::LengthDelimited {
            encoding::string::merge(wire_type, &mut stated, &mut message, context)
                .map_err(malformed)?;
        } else {
            encoding::skip_field(wire_type, tag, &mut message, context).map_err(malformed)?;
        }
    }
    Ok(Some(stated).filter(|stated| !stated.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::contract::Contract;
    use http::HeaderValue;
    use prost::Message as _;
    use proto::links::v1::CreateLinkRequest;
    use proto::links::v1::GetLinkRequest;

    const ID: &str = "5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11";

    fn method(path: &str) -> &'static Method {
        Contract::built_in().method(path).expect("it is public")
    }

    fn created(keys: &[&'static str], request_id: &str) -> Result<CreateLinkRequest, Error> {
        let create = method("/linkmesh.links.v1.LinksService/CreateLink");
        let message = CreateLinkRequest {
            parent: "workspaces/x".to_owned(),
            request_id: request_id.to_owned(),
            ..CreateLinkRequest::default()
        };
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(request_id::HEADER, HeaderValue::from_static(key));
        }
        let message = identified(create, &headers, message.encode_to_vec().into())?;
        Ok(CreateLinkRequest::decode(message).expect("it is still a message"))
    }

    #[test]
    fn a_key_becomes_the_messages_request_id_and_the_rest_stays() {
        let made = created(&[ID], "").expect("a key");
        assert_eq!((made.request_id.as_str(), made.parent.as_str()), (ID, "workspaces/x"));
        assert_eq!(created(&["\"order-7\""], ""), created(&["order-7"], ""));
        assert_eq!(created(&[], "").expect("nothing to do").request_id, "");
        for stated in [ID.to_owned(), ID.to_uppercase()] {
            assert_eq!(created(&[ID], &stated).expect("the same").request_id, stated);
        }
    }

    #[test]
    fn two_keys_a_malformed_one_and_one_beside_another_id_are_refused() {
        let other = "0b4f1cfe-2c1e-4a7e-8a53-5f0a9c1f3a10";
        for (keys, stated) in [
            (vec![ID, ID], ""),
            (vec!["two words"], ""),
            (vec![ID], other),
            (vec![ID], "x"),
            (vec!["k"], ID),
        ] {
            let error = created(&keys, stated).expect_err(stated);
            assert!(["idempotency-key", "request_id"].contains(&&*error.violations[0].field));
        }
    }

    /// What changes something and takes no request id, each for a reason that its proto states.
    const WITHOUT: [&str; 1] = ["/linkmesh.identity.v1.ProvidersService/BeginProviderSignIn"];

    #[test]
    fn every_method_that_changes_something_takes_a_request_id() {
        let mut without: Vec<&str> = Vec::new();
        for route in Contract::built_in().routes() {
            let field = route.method.input().get_field_by_name(FIELD);
            let is_text = field.is_some_and(|field| field.kind() == prost_reflect::Kind::String);
            let is_read_only =
                transcode::idempotency(&route.method) == transcode::Idempotency::NoSideEffects;
            let path = route.grpc_path.as_str();
            assert!(!is_read_only || !is_text, "{path} changes nothing");
            if !is_read_only && !is_text && !without.contains(&path) {
                without.push(path);
            }
        }
        assert_eq!(without, WITHOUT);
    }

    #[test]
    fn what_changes_nothing_takes_no_key() {
        let get = method("/linkmesh.links.v1.LinksService/GetLink");
        let message = Bytes::from(GetLinkRequest { name: "x".to_owned() }.encode_to_vec());
        let mut headers = HeaderMap::new();
        headers.insert(request_id::HEADER, HeaderValue::from_static("two words"));
        assert_eq!(identified(get, &headers, message.clone()), Ok(message));
    }
}
