//! The comments of protos, by what they stand before. They are there only if the descriptors were made with source info.

use prost_reflect::DescriptorPool;
use prost_reflect::FileDescriptor;
use std::collections::HashMap;

/// By file and path within it.
pub(super) struct Comments(HashMap<String, HashMap<Vec<i32>, String>>);

impl Comments {
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let files = pool.files().map(|file| {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let comments = locations.iter().filter_map(|location| {
                let leading = location.leading_comments.as_deref()?;
                Some((location.path.clone(), unwrap(leading)))
            });
            (file.name().to_owned(), comments.collect())
        });
        Self(files.collect())
    }

    /// In Markdown; empty without one.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(file.name()).and_then(|file| file.get(path)).map_or("", String::as_str)
    }
}

/// Lines that were broken to fit, as paragraphs again.
fn unwrap(comment: &str) -> String {
    let mut text = String::new();
    let mut is_within = false;
    for line in comment.lines().map(str::trim) {
        if line.is_empty() {
            is_within = false;
            continue;
        }
        let is_item = line.starts_with("- ") || line.starts_with("* ");
        if !text.is_empty() {
            text.push_str(match (is_within, is_item) {
                (true, false) => " ",
                (true, true) => "\n",
                (false, _) => "\n\n",
            });
        }
        text.push_str(line);
        is_within = true;
    }
    text
}

/// What stands in a list: the first sentence, or what is said before its first colon, without its end.
pub(super) fn summary(text: &str) -> &str {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let ends = [". ", ": ", "; "].into_iter().filter_map(|end| paragraph.find(end));
    let cut = ends.min().map_or(paragraph, |end| &paragraph[..end]);
    cut.trim_end_matches(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_paragraphs_and_their_first_sentence_is_the_summary() {
        let text = unwrap(
            " Creates a link, with a random\n slug. Needs that.\n\n Fails:\n - so\n - or so\n",
        );
        assert_eq!(
            text,
            "Creates a link, with a random slug. Needs that.\n\nFails:\n- so\n- or so"
        );
        assert_eq!(summary(&text), "Creates a link, with a random slug");
        assert_eq!(summary("Changes it: at once."), "Changes it");
        assert_eq!(summary("Reads v1.2 of it."), "Reads v1.2 of it");
        assert_eq!(summary(""), "");
    }
}
