//! The values of dimensions as small numbers, so that counting a click hashes each of its texts once.

use std::collections::HashMap;
use std::sync::Arc;

/// What stands for every value past the limit of a rollup.
pub const OTHER: &str = "(other)";

/// A value's number; it means something only beside the [`Values`] that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);

/// [`OTHER`]'s number, the same in every [`Values`].
pub const OTHER_ID: ValueId = ValueId(0);

/// Texts and their numbers, both ways. Grows until its owner drops it; the owner bounds it by [`Values::bytes`].
#[derive(Debug)]
pub struct Values {
    ids: HashMap<Arc<str>, ValueId, rapidhash::fast::RandomState>,
    texts: Vec<Arc<str>>,
    bytes: usize,
}

impl Default for Values {
    fn default() -> Self {
        let mut values = Values { ids: HashMap::default(), texts: Vec::new(), bytes: 0 };
        let other = values.id(OTHER);
        assert_eq!(other, OTHER_ID, "the first text gets the first number");
        values
    }
}

impl Values {
    /// The number of a text, given now if it has none.
    pub fn id(&mut self, text: &str) -> ValueId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id =
            ValueId(u32::try_from(self.texts.len()).expect("bounded by bytes, far below 2^32"));
        let shared: Arc<str> = Arc::from(text);
        self.bytes += text.len() + 64;
        self.texts.push(Arc::clone(&shared));
        self.ids.insert(shared, id);
        id
    }

    /// The text of a number that [`Values::id`] gave.
    pub fn text(&self, id: ValueId) -> &str {
        &self.texts[id.0 as usize]
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
