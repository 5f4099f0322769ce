//! Keeps the library mapped while the connection's thread runs in it, even after the host unloads it.

#[cfg(unix)]
pub fn stay_loaded() {
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // Safety: finds the library that holds this function, and opens it again with RTLD_NODELETE.
    unsafe {
        if libc::dladdr(stay_loaded as fn() as *const libc::c_void, &raw mut found) != 0 && !found.dli_fname.is_null() {
            libc::dlopen(found.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

#[cfg(windows)]
pub fn stay_loaded() {
    use std::ffi::c_void;
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetModuleHandleExW(flags: u32, address: *const c_void, module: *mut *mut c_void) -> i32;
    }
    const FROM_ADDRESS: u32 = 4;
    const PIN: u32 = 1;
    let mut module = std::ptr::null_mut();
    // Safety: pins the library that holds this function.
    unsafe { GetModuleHandleExW(FROM_ADDRESS | PIN, stay_loaded as fn() as *const c_void, &raw mut module) };
}
