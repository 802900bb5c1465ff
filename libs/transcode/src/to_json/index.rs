//! Where in a message's bytes its fields are.

use super::Writer;
use crate::schema::Message;
use crate::wire;
use crate::wire::Broken;
use crate::wire::Cursor;

/// Where one field's values are. A message is shorter than 2 GiB, so offsets fit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    /// The tag of the first value that counts.
    pub(super) first: u32,
    /// The last value, behind its tag.
    pub(super) last: u32,
    /// How many there are from the first on.
    pub(super) count: u32,
}

impl Writer<'_, '_> {
    /// Finds all fields of a message; the slot of field `n` is `slots[result + n]`. Whoever asks cuts them off again.
    ///
    /// Of a oneof only the member that came last has a value: one that comes after another begins anew.
    pub(super) fn scan(&mut self, message: &Message, wire: &[u8]) -> Result<usize, Broken> {
        let base = self.slots.len();
        self.slots.resize(base + message.fields.len(), Slot::default());
        let slots = &mut self.slots[base..];
        let mut cursor = Cursor::new(wire);
        while !cursor.is_at_end() {
            let first = offset(cursor.at)?;
            let (number, wire_type) = cursor.tag()?;
            let Some(index) = message.index_by_number(number) else {
                cursor.skip(number, wire_type, self.depth)?;
                continue;
            };
            let field = &message.fields[index];
            if !field.takes(wire_type) {
                return Err(wire::NOT_ITS_OWN);
            }
            if let Some(oneof) = field.oneof
                && slots[index].count == 0
            {
                for (other, slot) in message.fields.iter().zip(&mut *slots) {
                    if other.oneof == Some(oneof) {
                        slot.count = 0;
                    }
                }
            }
            let slot = &mut slots[index];
            if slot.count == 0 {
                slot.first = first;
            }
            slot.last = offset(cursor.at)?;
            slot.count += 1;
            cursor.skip(number, wire_type, self.depth)?;
        }
        Ok(base)
    }
}

fn offset(at: usize) -> Result<u32, Broken> {
    u32::try_from(at).map_err(|_| Broken("it is longer than 2 GiB"))
}
