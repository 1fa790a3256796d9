//! The atomics of the heap's protocols: `core`'s, or, for the models, `core`'s with a step of the scheduler before every operation.
//!
//! Zone: fast. In an ordinary build this is a re-export and nothing else. The models' types have the same layout and are valid
//! zero-filled, too, since slab headers and heaps are made from raw memory. What is constant once it is published (the window, the arenas)
//! uses `core`'s directly, so that models do not spend their steps on it; `tests/structure.rs` lists who may.

#[cfg(not(feature = "model"))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(feature = "model")]
pub(crate) use modelled::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(feature = "model")]
mod modelled {
    use crate::model::step;
    use core::sync::atomic;
    pub(crate) use core::sync::atomic::{Ordering, fence};

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

                fn inner(&self) -> &atomic::$name $(<$param>)? {
                    step((&raw const *self).addr());
                    &self.0
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.inner().load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.inner().store(value, order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.inner().swap(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.inner().compare_exchange(current, new, success, failure)
                }

                /// Never fails for no reason: a failure leads back to the same step.
                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.inner().compare_exchange(current, new, success, failure)
                }
            }
        };
    }

    /// As [`atomic`], with arithmetic.
    macro_rules! integer {
        ($name:ident, $value:ty) => {
            atomic!($name, $value);

            #[allow(dead_code, reason = "not every type needs every operation")]
            impl $name {
                pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.inner().fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    self.inner().fetch_sub(value, order)
                }

                pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.inner().fetch_or(value, order)
                }

                pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.inner().fetch_and(value, order)
                }

                pub(crate) fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                    self.inner().fetch_max(value, order)
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
}
