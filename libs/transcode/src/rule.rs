//! `google.api.http` as written on a method, read from its options.

use prost_reflect::DescriptorPool;
use prost_reflect::DynamicMessage;
use prost_reflect::MethodDescriptor;
use prost_reflect::Value;

/// One binding of a method: a verb, a template and what is in the bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `None` for `custom` with kind `*`: any method.
    pub(crate) http_method: Option<http::Method>,
    pub(crate) template: String,
    pub(crate) body: String,
    pub(crate) response_body: String,
}

/// The bindings of a method, the additional ones after the first; none if the method is not public.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn rules_of(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
) -> Result<Vec<Rule>, String> {
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let value = options.get_extension(&extension);
    let Some(rule) = value.as_message() else {
        return Err("has a google.api.http that is no message".to_owned());
    };
    let mut rules = vec![read(rule)?];
    for additional in messages(rule, "additional_bindings") {
        if messages(&additional, "additional_bindings").next().is_some() {
            return Err("nests additional_bindings".to_owned());
        }
        let binding = read(&additional)?;
        if binding.body != rules[0].body {
            return Err("has additional_bindings with another body".to_owned());
        }
        rules.push(binding);
    }
    Ok(rules)
}

fn read(rule: &DynamicMessage) -> Result<Rule, String> {
    let (http_method, template) = pattern(rule)?;
    Ok(Rule {
        http_method,
        template,
        body: text(rule, "body"),
        response_body: text(rule, "response_body"),
    })
}

fn pattern(rule: &DynamicMessage) -> Result<(Option<http::Method>, String), String> {
    for (field, method) in [
        ("get", http::Method::GET),
        ("put", http::Method::PUT),
        ("post", http::Method::POST),
        ("delete", http::Method::DELETE),
        ("patch", http::Method::PATCH),
    ] {
        if rule.has_field_by_name(field) {
            return Ok((Some(method), text(rule, field)));
        }
    }
    let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
    let Some(custom) = custom.as_deref().and_then(Value::as_message) else {
        return Err("has a google.api.http without a pattern".to_owned());
    };
    let kind = text(custom, "kind");
    let method = match kind.as_str() {
        "*" => None,
        kind => Some(kind.parse().map_err(|_| format!("has the custom method `{kind}`"))?),
    };
    Ok((method, text(custom, "path")))
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn messages(message: &DynamicMessage, field: &str) -> impl Iterator<Item = DynamicMessage> {
    let list = message.get_field_by_name(field).map(std::borrow::Cow::into_owned);
    let values = match list {
        Some(Value::List(values)) => values,
        Some(_) | None => Vec::new(),
    };
    values.into_iter().filter_map(|value| value.as_message().cloned())
}
