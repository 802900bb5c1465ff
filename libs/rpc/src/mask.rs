//! Update masks (AIP-134): which fields an update changes.

use crate::Error;

/// The fields to change, in the order of `changeable`.
///
/// `mask` lists them by name, or is `["*"]` for all of them; absent or empty, it means those of `populated`, which are
/// the fields that the message sets.
///
/// # Errors
/// INVALID_FIELD for a path that is not in `changeable`, naming those that are.
pub fn fields<'a>(
    mask: Option<&prost_types::FieldMask>,
    changeable: &[&'a str],
    populated: &[&str],
) -> Result<Vec<&'a str>, Error> {
    let paths = mask.map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() {
        return Ok(keep(changeable, |field| populated.contains(&field)));
    }
    if paths.iter().any(|path| path == "*") {
        if paths.len() > 1 {
            return Err(Error::invalid("update_mask", "must not name other fields beside `*`"));
        }
        return Ok(changeable.to_vec());
    }
    if let Some(unknown) = paths.iter().find(|path| !changeable.contains(&path.as_str())) {
        let known = changeable.join(", ");
        return Err(Error::invalid(
            "update_mask",
            format!("names `{}`; what can be changed is {known}", unknown.escape_debug()),
        ));
    }
    Ok(keep(changeable, |field| paths.iter().any(|path| path == field)))
}

fn keep<'a>(fields: &[&'a str], wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
    fields.iter().copied().filter(|field| wanted(field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    }

    #[test]
    fn a_mask_chooses_fields_and_its_absence_those_that_are_set() {
        let all = ["a", "b", "c"];
        assert_eq!(fields(mask(&["c", "a"]).as_ref(), &all, &[]), Ok(vec!["a", "c"]));
        assert_eq!(fields(mask(&["*"]).as_ref(), &all, &[]), Ok(all.to_vec()));
        assert_eq!(fields(None, &all, &["b"]), Ok(vec!["b"]));
        assert_eq!(fields(mask(&[]).as_ref(), &all, &["b"]), Ok(vec!["b"]));
    }

    #[test]
    fn an_unknown_path_is_refused_with_those_that_are_known() {
        let error = fields(mask(&["name"]).as_ref(), &["a", "b"], &[]).expect_err("not changeable");
        assert!(error.message.contains("`name`") && error.message.contains("a, b"));
        assert!(fields(mask(&["*", "a"]).as_ref(), &["a"], &[]).is_err());
    }
}
