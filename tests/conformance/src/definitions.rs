//! What the suite's requests ask a service to answer, whatever their method.

use prost::Message;
use prost_types::Any;

use crate::generated::BidiStreamRequest;
use crate::generated::BidiStreamResponse;
use crate::generated::ClientStreamRequest;
use crate::generated::ClientStreamResponse;
use crate::generated::ConformancePayload;
use crate::generated::Error;
use crate::generated::Header;
use crate::generated::IdempotentUnaryRequest;
use crate::generated::IdempotentUnaryResponse;
use crate::generated::ServerStreamRequest;
use crate::generated::ServerStreamResponse;
use crate::generated::StreamResponseDefinition;
use crate::generated::UnaryRequest;
use crate::generated::UnaryResponse;
use crate::generated::UnaryResponseDefinition;
use crate::generated::unary_response_definition::Response;

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Definition {
    pub(crate) headers: Vec<Header>,
    pub(crate) trailers: Vec<Header>,
    /// What each message holds.
    pub(crate) data: Vec<Vec<u8>>,
    pub(crate) delay_ms: u32,
    pub(crate) error: Option<Error>,
}

/// A request of the suite.
pub(crate) trait Asked: Message + Default + 'static {
    /// Its full name.
    const NAME: &'static str;
    /// What it is answered with.
    type Answer: Message + Default + From<ConformancePayload> + 'static;

    fn definition(&self) -> Definition;

    fn any(&self) -> Any {
        Any { type_url: type_url(Self::NAME), value: self.encode_to_vec() }
    }
}

pub(crate) fn type_url(name: &str) -> String {
    format!("type.googleapis.com/connectrpc.conformance.v1.{name}")
}

impl From<UnaryResponseDefinition> for Definition {
    fn from(asked: UnaryResponseDefinition) -> Self {
        let (data, error) = match asked.response {
            Some(Response::ResponseData(data)) => (data, None),
            Some(Response::Error(error)) => (Vec::new(), Some(error)),
            None => (Vec::new(), None),
        };
        Self {
            headers: asked.response_headers,
            trailers: asked.response_trailers,
            data: if error.is_none() { vec![data] } else { Vec::new() },
            delay_ms: asked.response_delay_ms,
            error,
        }
    }
}

impl From<StreamResponseDefinition> for Definition {
    fn from(asked: StreamResponseDefinition) -> Self {
        Self {
            headers: asked.response_headers,
            trailers: asked.response_trailers,
            data: asked.response_data,
            delay_ms: asked.response_delay_ms,
            error: asked.error,
        }
    }
}

macro_rules! asked {
    ($request:ident, $answer:ident, $none:expr) => {
        impl Asked for $request {
            const NAME: &'static str = stringify!($request);
            type Answer = $answer;

            fn definition(&self) -> Definition {
                self.response_definition.clone().map_or_else(|| $none, Definition::from)
            }
        }

        impl From<ConformancePayload> for $answer {
            fn from(payload: ConformancePayload) -> Self {
                Self { payload: Some(payload) }
            }
        }
    };
}

/// A unary call is answered with one message in any case.
fn empty_message() -> Definition {
    Definition { data: vec![Vec::new()], ..Definition::default() }
}

asked!(UnaryRequest, UnaryResponse, empty_message());
asked!(IdempotentUnaryRequest, IdempotentUnaryResponse, empty_message());
asked!(ClientStreamRequest, ClientStreamResponse, empty_message());
asked!(ServerStreamRequest, ServerStreamResponse, Definition::default());
asked!(BidiStreamRequest, BidiStreamResponse, Definition::default());
