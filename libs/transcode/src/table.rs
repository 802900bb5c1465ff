//! The route table: built once from a descriptor pool, then asked for every request.

use crate::route::Route;
use crate::rule;
use crate::schema::Schema;
use crate::template;
use crate::template::SEGMENTS_MAX;
use crate::to_json::WriteOptions;
use crate::to_wire::ReadOptions;
use crate::tree::Found;
use crate::tree::Tree;
use prost_reflect::DescriptorPool;
use std::sync::Arc;

/// Why a descriptor pool makes no route table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A method's `google.api.http` can't be served.
    #[error("{method} {why}")]
    Rule {
        /// The method's full name.
        method: String,
        /// What is wrong with its rule.
        why: String,
    },
    /// Two methods want the same requests.
    #[error("{method} and {other} both have {template}")]
    Duplicate {
        /// The later method's full name.
        method: String,
        /// The earlier one's.
        other: String,
        /// The verb and template that they share.
        template: String,
    },
}

/// How a route's requests are read and its answers written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether `+` in a query is a space, as HTML forms and most HTTP clients write it. In a path it never is.
    pub plus_is_space: bool,
    /// Whether a path variable of several segments keeps all reserved characters of RFC 6570 as received, instead of `%2F`
    /// alone: `fully_decode_reserved_expansion = false` of `google.api.Http`.
    pub keeps_reserved_encoded: bool,
    /// Whether a request is refused that lacks a field which `google.api.field_behavior` calls REQUIRED. What a PATCH leaves out
    /// of its resource is not asked for.
    pub requires_required: bool,
    /// How JSON is read.
    pub read: ReadOptions,
    /// How JSON is written.
    pub write: WriteOptions,
}

/// Every REST route of a descriptor pool.
#[derive(Debug)]
pub struct RouteTable {
    /// All of them, in the pool's order.
    pub routes: Vec<Arc<Route>>,
    /// The messages, compiled.
    pub schema: Arc<Schema>,
    tree: Tree,
}

/// What a request's method and path lead to.
#[derive(Debug)]
pub enum Lookup {
    /// A route.
    Found(Match),
    /// The path is known, but not with this method.
    MethodNotAllowed {
        /// What the `Allow` header says, such as `GET, HEAD, PATCH`.
        allow: String,
    },
    /// No route has this path.
    NotFound,
}

/// A route and what the path says. It outlives its table, which may be replaced while a stream lasts.
#[derive(Debug, Clone)]
pub struct Match {
    /// The route.
    pub route: Arc<Route>,
    /// For each of the route's path fields, what the path holds for it, as received.
    pub(crate) raw_values: Vec<String>,
}

impl RouteTable {
    /// Reads `google.api.http` of every method in the pool; methods without are left out.
    ///
    /// # Errors
    /// A rule that can't be served, or two for the same requests.
    pub fn from_pool(pool: &DescriptorPool) -> Result<Self, RouteError> {
        let schema = Arc::new(Schema::new(pool));
        let mut routes: Vec<Arc<Route>> = Vec::new();
        let mut tree = Tree::default();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let refuse = |why| RouteError::Rule { method: method.full_name().to_owned(), why };
            for rule in rule::rules_of(pool, &method).map_err(refuse)? {
                let route = Route::new(&schema, &method, &rule).map_err(refuse)?;
                tree.insert(&route.parsed, rule.http_method, routes.len()).map_err(|other| {
                    RouteError::Duplicate {
                        method: method.full_name().to_owned(),
                        other: routes[other].method.full_name().to_owned(),
                        template: rule.template.clone(),
                    }
                })?;
                routes.push(Arc::new(route));
            }
        }
        Ok(Self { routes, schema, tree })
    }

    /// The same table, with what `options` says of each route.
    #[must_use]
    pub fn with_options(mut self, options: impl Fn(&Route) -> Options) -> Self {
        for route in &mut self.routes {
            let options = options(route);
            Arc::get_mut(route).expect("nobody was given a new table's routes").options = options;
        }
        self
    }

    /// Finds the route of a request, given the path as received (still percent-encoded, without the query).
    ///
    /// HEAD finds what GET does. A trailing slash and `//` match nothing.
    #[must_use]
    pub fn find(&self, method: &http::Method, path: &str) -> Lookup {
        let Some(path) = path.strip_prefix('/') else {
            return Lookup::NotFound;
        };
        let segments = template::split_path(path);
        if segments.len() > SEGMENTS_MAX {
            return Lookup::NotFound;
        }
        let mut found = self.tree.find(method, &segments);
        if *method == http::Method::HEAD && !matches!(found, Found::Route(_)) {
            found = self.tree.find(&http::Method::GET, &segments);
        }
        match found {
            Found::Nothing => Lookup::NotFound,
            Found::Methods(methods) => Lookup::MethodNotAllowed { allow: allow(&methods) },
            Found::Route(id) => {
                let route = Arc::clone(&self.routes[id]);
                let raw_values = raw_values(&route, &segments);
                Lookup::Found(Match { route, raw_values })
            }
        }
    }
}

fn allow(methods: &[http::Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// Cuts a matching path into what each variable covers, a verb left out.
fn raw_values(route: &Route, segments: &[&str]) -> Vec<String> {
    let template = &route.parsed;
    let mut segments = segments.to_vec();
    if let Some(verb) = &template.verb
        && let Some(last) = segments.pop()
        && let Some(stem) = last.strip_suffix(verb.as_str()).and_then(|stem| stem.strip_suffix(':'))
        && !stem.is_empty()
    {
        segments.push(stem);
    }
    // `**` takes what the others leave, so what comes after it is counted from the end.
    let taken_by_double_star = (segments.len() + 1).saturating_sub(template.segments.len());
    let double_star = template
        .segments
        .iter()
        .position(|segment| *segment == template::Segment::DoubleStar)
        .unwrap_or(usize::MAX);
    let position = |index: usize| {
        if index > double_star { index - 1 + taken_by_double_star } else { index }
    };
    template
        .variables
        .iter()
        .map(|variable| {
            let start = position(variable.start);
            let end = position(variable.start + variable.length);
            segments[start..end].join("/")
        })
        .collect()
}
