//! Resource names (AIP-122): `workspaces/{workspace}/links/{link}`.

use crate::Error;
use crate::WorkspaceId;
use crate::id::Id;
use crate::id::Kind;

/// Reads `workspaces/{workspace}`.
///
/// # Errors
/// INVALID_FIELD naming `field`.
pub fn workspace(field: &str, text: &str) -> Result<WorkspaceId, Error> {
    let id = text.strip_prefix("workspaces/").ok_or_else(|| {
        required(field, text)
            .unwrap_or_else(|| Error::invalid(field, "must be `workspaces/{workspace}`"))
    })?;
    parse_id(field, id)
}

/// Reads `workspaces/{workspace}/{collection}/{id}`.
///
/// # Errors
/// INVALID_FIELD naming `field`.
pub fn child<K: Kind>(
    field: &str,
    collection: &str,
    text: &str,
) -> Result<(WorkspaceId, Id<K>), Error> {
    let (workspace, id) = child_text(field, collection, text)?;
    Ok((workspace, parse_id(field, id)?))
}

/// Reads `workspaces/{workspace}/{collection}/{…}` where the last segment is no id of ours, such as a domain.
///
/// # Errors
/// INVALID_FIELD naming `field`.
pub fn child_text<'a>(
    field: &str,
    collection: &str,
    text: &'a str,
) -> Result<(WorkspaceId, &'a str), Error> {
    let mut segments = text.split('/');
    if let (Some("workspaces"), Some(workspace), Some(name), Some(last), None) =
        (segments.next(), segments.next(), segments.next(), segments.next(), segments.next())
        && name == collection
        && !last.is_empty()
    {
        return Ok((parse_id(field, workspace)?, last));
    }
    Err(required(field, text).unwrap_or_else(|| {
        Error::invalid(field, format!("must be `workspaces/{{workspace}}/{collection}/{{id}}`"))
    }))
}

fn required(field: &str, text: &str) -> Option<Error> {
    text.is_empty().then(|| Error::invalid(field, "is required"))
}

fn parse_id<K: Kind>(field: &str, text: &str) -> Result<Id<K>, Error> {
    Id::parse(text).map_err(|error| {
        Error::invalid(field, format!("has a malformed id: {} {error}", text.escape_debug()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkId;
    use crate::kind;

    #[test]
    fn names_of_links_and_workspaces_are_read() {
        let (wsp, lnk) = (WorkspaceId::new(), LinkId::new());
        assert_eq!(workspace("parent", &format!("workspaces/{wsp}")), Ok(wsp));
        let name = format!("workspaces/{wsp}/links/{lnk}");
        assert_eq!(child::<kind::Link>("name", "links", &name), Ok((wsp, lnk)));
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_field() {
        let wsp = WorkspaceId::new();
        for text in ["", "workspaces", "workspaces/-", &format!("workspaces/{wsp}/x"), "links/x"] {
            let error = workspace("parent", text).expect_err(text);
            assert_eq!(error.violations[0].field, "parent", "{text}");
        }
        for text in
            ["", "x", &format!("workspaces/{wsp}/links/"), &format!("workspaces/{wsp}/links/a/b")]
        {
            assert!(child::<kind::Link>("name", "links", text).is_err(), "{text}");
        }
    }
}
