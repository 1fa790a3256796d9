//! Accesses to objects, counted for the pages where the object was at the time.

use crate::heap::Heap;
use crate::table::{Object, Table};

/// What is known of a program's objects.
#[derive(Debug, Default)]
pub struct Accesses {
    objects: Vec<Object>,
}

impl Accesses {
    /// Adds the accesses in blocks that objects have left since the last call to the heap's window.
    ///
    /// To be called often enough that the table has room for all departures.
    pub fn take_in_departed(&mut self, table: &Table, heap: &mut Heap) {
        self.objects.resize(table.objects(), Object::default());
        let full = table.departures(&mut |departure| {
            let from = departure.from;
            if let Some(known) = self.objects.get_mut(departure.object) {
                // It may have been seen in its next block before this one's departure was entered.
                heap.add(from.address, from.bytes, from.accesses.saturating_sub(known.accesses));
                known.accesses = known.accesses.max(from.accesses);
            }
        });
        if full {
            eprintln!(
                "more objects moved than there is room to tell of: some accesses count for their next place"
            );
        }
    }

    /// Adds all accesses since the last call to the heap's window.
    pub fn take_in(&mut self, table: &Table, heap: &mut Heap) {
        self.take_in_departed(table, heap);
        for (i, known) in self.objects.iter_mut().enumerate() {
            let object = table.object(i);
            let accesses = object.accesses.wrapping_sub(known.accesses);
            let is_new = (object.address, object.bytes) != (known.address, known.bytes);
            if object.address != 0 && (is_new || accesses != 0) {
                heap.add(object.address, object.bytes, accesses);
            }
            *known = object;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_count_where_the_object_was() {
        let (table, mut accesses, mut heap) = (Table::for_test(), Accesses::default(), Heap::default());
        let at = |page: usize, accesses: u64| Object { address: page * 4096, bytes: 64, accesses };
        table.put(0, at(1, 10));
        table.put(1, at(1, 1));
        accesses.take_in(&table, &mut heap);
        table.depart(0, at(1, 15));
        table.depart(0, at(2, 17));
        table.put(0, at(3, 18));
        accesses.take_in_departed(&table, &mut heap);
        accesses.take_in(&table, &mut heap);
        let window = |heap: &mut Heap, dram: [bool; 3]| heap.look(&dram.map(Some), 3, 0.0).share;
        assert_eq!(heap.addresses(), [4096, 8192, 12288]);
        assert!((window(&mut heap, [true, false, false]) - 16.0 / 19.0).abs() < 1e-12);
        // Seen in its next block, and only then told of the last one.
        table.put(0, at(1, 30));
        accesses.take_in(&table, &mut heap);
        table.depart(0, at(3, 28));
        table.put(0, at(2, 31));
        accesses.take_in(&table, &mut heap);
        assert!(
            (heap.look(&[Some(true), Some(false), Some(true)], 3, 1.0).share - 12.0 / 13.0).abs() < 1e-12
        );
    }
}
