//! The boundary to the host, which no panic may cross.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::{FAILED, Status};

/// Turns a panic into a failed action.
pub fn guarded(action: impl FnOnce() -> Status) -> Status {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::OK;

    #[test]
    fn panic_is_a_failed_action() {
        crate::file_log::install();
        assert_eq!(guarded(|| panic!("on purpose")), FAILED);
        assert_eq!(guarded(|| OK), OK);
    }
}
