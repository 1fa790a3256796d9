//! The atomics as models see them (feature `model`): each operation is a step, and tells what it does. Zone: any, of a model.

use crate::model::{Hooks, hooks};
use core::sync::atomic;
pub(crate) use core::sync::atomic::Ordering;

/// As [`atomic::fence`].
pub(crate) fn fence(order: Ordering) {
    atomic::fence(order);
    if let Some(hooks) = hooks() {
        (hooks.fence)(order);
    }
}

/// What fits in a word.
trait Word: Copy {
    fn word(self) -> u64;
    fn of(word: u64) -> Self;
}

impl Word for bool {
    fn word(self) -> u64 {
        u64::from(self)
    }

    fn of(word: u64) -> Self {
        word != 0
    }
}

impl<T> Word for *mut T {
    fn word(self) -> u64 {
        self.expose_provenance() as u64
    }

    fn of(word: u64) -> Self {
        core::ptr::with_exposed_provenance_mut(word as usize)
    }
}

/// The operations that every atomic type has.
macro_rules! atomic {
    ($name:ident, $value:ty $(, $param:ident)?) => {
        #[repr(transparent)]
        pub(crate) struct $name $(<$param>)? (atomic::$name $(<$param>)?);

        #[allow(dead_code, reason = "not every type needs every operation")]
        impl $(<$param>)? $name $(<$param>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            fn addr(&self) -> usize {
                (&raw const *self).addr()
            }

            /// The step before an operation.
            fn step(&self) -> Option<&'static Hooks> {
                hooks().inspect(|hooks| (hooks.step)(self.addr()))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                let Some(hooks) = self.step() else { return self.0.load(order) };
                Word::of((hooks.load)(self.addr(), self.0.load(order).word(), order, false))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                if let Some(hooks) = self.step() {
                    (hooks.store)(self.addr(), self.0.load(Ordering::Relaxed).word(), value.word(), order);
                }
                self.0.store(value, order);
            }

            /// Runs `f`, that reads and writes at once, and tells what it did.
            fn update(&self, order: Ordering, f: impl FnOnce(&atomic::$name $(<$param>)?) -> $value) -> $value {
                let hooks = self.step();
                let old = f(&self.0);
                if let Some(hooks) = hooks {
                    (hooks.update)(self.addr(), old.word(), self.0.load(Ordering::Relaxed).word(), order);
                }
                old
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.swap(value, order))
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let hooks = self.step();
                let result = self.0.compare_exchange(current, new, success, failure);
                if let Some(hooks) = hooks {
                    match result {
                        Ok(old) => (hooks.update)(self.addr(), old.word(), new.word(), success),
                        Err(now) => {
                            (hooks.load)(self.addr(), now.word(), failure, true);
                        }
                    }
                }
                result
            }

            /// Never fails for no reason: a failure leads back to the same step.
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }
        }
    };
}

/// As [`atomic`], with arithmetic.
macro_rules! integer {
    ($name:ident, $value:ty) => {
        impl Word for $value {
            fn word(self) -> u64 {
                self as u64
            }

            fn of(word: u64) -> Self {
                word as $value
            }
        }

        atomic!($name, $value);

        #[allow(dead_code, reason = "not every type needs every operation")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.fetch_add(value, order))
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.fetch_sub(value, order))
            }

            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.fetch_or(value, order))
            }

            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.fetch_and(value, order))
            }

            pub(crate) fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.update(order, |word| word.fetch_max(value, order))
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicPtr, *mut T, T);
integer!(AtomicU8, u8);
integer!(AtomicU16, u16);
integer!(AtomicU32, u32);
integer!(AtomicU64, u64);
integer!(AtomicUsize, usize);
