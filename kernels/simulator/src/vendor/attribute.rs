//! Values that pass through pointers of the caller.

use std::ffi::c_void;

use super::refusal::{Refusal, valid};

/// Writes `value` to a place of the caller's.
///
/// # Safety
/// `to` is null or may be written.
///
/// # Errors
/// If it is null.
pub unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Refusal> {
    valid(!to.is_null(), || "null, expected a place for the result".to_owned())?;
    // SAFETY: not null, so the caller vouches for it.
    unsafe { to.write(value) };
    Ok(())
}

/// Reads a value from a place of the caller's; `what` is its name.
///
/// # Safety
/// `from` is null or holds a `T`.
///
/// # Errors
/// If it is null.
pub unsafe fn take<T: Copy>(from: *const T, what: &str) -> Result<T, Refusal> {
    valid(!from.is_null(), || format!("{what} is null"))?;
    // SAFETY: not null, so the caller vouches for it.
    Ok(unsafe { from.read_unaligned() })
}

/// Copies an attribute of `size` bytes at `from` into `field`.
///
/// # Safety
/// `from` is null or holds `size` bytes.
///
/// # Errors
/// If it is null or of another size.
pub unsafe fn set_attribute(field: &mut [u8], from: *const c_void, size: usize) -> Result<(), Refusal> {
    let expected = field.len();
    valid(!from.is_null() && size == expected, || {
        format!("an attribute of {size} bytes at {from:?}, expected {expected} bytes")
    })?;
    // SAFETY: `size` bytes there, as the caller vouches; the field is ours.
    unsafe { from.cast::<u8>().copy_to_nonoverlapping(field.as_mut_ptr(), size) };
    Ok(())
}

/// Copies the attribute `field` to `to`, and its size to `written`; with `size` 0 only that.
///
/// # Safety
/// `to` may take `size` bytes; `written` is null or may be written.
///
/// # Errors
/// If there is too little room.
pub unsafe fn get_attribute(field: &[u8], to: *mut c_void, size: usize, written: *mut usize) -> Result<(), Refusal> {
    let expected = field.len();
    if !written.is_null() {
        // SAFETY: not null, so the caller vouches for it.
        unsafe { written.write(expected) };
    }
    if size == 0 {
        return valid(!written.is_null(), || "no room for the attribute nor for its size".to_owned());
    }
    valid(!to.is_null() && size >= expected, || {
        format!("room for {size} bytes at {to:?}, the attribute takes {expected}")
    })?;
    // SAFETY: room for `size` bytes there, as the caller vouches.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(field.as_ptr(), expected) };
    Ok(())
}
