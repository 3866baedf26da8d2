//! Whether this program runs under wine: what was seen there was not seen on Windows, and has to be called so.

/// The version of wine this program runs under, such as "8.0"; `None` on Windows itself, and on every other system.
///
/// ```
/// let system = match pollmark_backends::wine() {
///     Some(version) => format!("Windows, as wine {version} imitates it"),
///     None => std::env::consts::OS.to_owned(),
/// };
/// # assert!(!system.is_empty());
/// ```
pub fn wine() -> Option<String> {
    sys::version()
}

#[cfg(not(windows))]
mod sys {
    pub(super) fn version() -> Option<String> {
        None
    }
}

#[cfg(windows)]
mod sys {
    use std::ffi::{CStr, c_char};

    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

    /// Asks ntdll.dll, where wine's developers put a function for those who must know.
    pub(super) fn version() -> Option<String> {
        // SAFETY: the name is a C string; the library is in every process and is never unloaded.
        let library = unsafe { GetModuleHandleA(c"ntdll.dll".as_ptr().cast()) };
        // SAFETY: the name is a C string. Of a null library the answer is merely that it has no such function.
        let function = unsafe { GetProcAddress(library, c"wine_get_version".as_ptr().cast()) }?;
        // SAFETY: both are pointers to functions. wine, and nobody else, exports this name, and documents this type.
        let function: unsafe extern "C" fn() -> *const c_char = unsafe { std::mem::transmute(function) };
        // SAFETY: it takes nothing and has no precondition.
        let version = unsafe { function() };
        // SAFETY: wine answers with a C string that is part of the library.
        let version = unsafe { CStr::from_ptr(version) };
        Some(version.to_string_lossy().into_owned())
    }
}
