//! libibverbs, the stock RDMA library, found at run time: everything else works without it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::{io, ptr};

use crate::memory::Mapping;
use crate::reply::Failure;

/// `IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ`.
const WRITABLE: c_int = 1 | 2 | 4;
/// Local reading is always allowed, so reading alone is no flag at all.
const READ_ONLY: c_int = 0;

/// An opened device and its protection domain.
pub struct Device {
    context: *mut c_void,
    domain: *mut c_void,
    name: String,
}

/// A registered memory region.
pub struct Region(*mut c_void);

// SAFETY: libibverbs' objects belong to the process and its calls on them are thread-safe
// (libibverbs(7)).
unsafe impl Send for Device {}
// SAFETY: as for `Device`.
unsafe impl Send for Region {}

impl Device {
    /// Opens the device called `name`, or the first one.
    pub fn open(name: Option<&str>) -> Result<Self, Failure> {
        let verbs = Verbs::get()?;
        let mut count = 0;
        // SAFETY: the library writes the count and returns an array of that length, or null.
        let list = unsafe { (verbs.get_device_list)(&raw mut count) };
        if list.is_null() {
            return Err(refusal("ibv_get_device_list"));
        }
        let mut opened = None;
        for index in 0..count.cast_unsigned() as usize {
            // SAFETY: `index` is below the count that came with the array.
            let device = unsafe { *list.add(index) };
            // SAFETY: the device is alive until the list is freed.
            let found = unsafe { (verbs.get_device_name)(device) };
            // SAFETY: a device's name is NUL-terminated and lives as long as the device.
            let found = unsafe { CStr::from_ptr(found) }
                .to_string_lossy()
                .into_owned();
            if name.is_none_or(|name| name == found) {
                opened = Some(Self::open_device(verbs, device, found));
                break;
            }
        }
        // SAFETY: the list came from the call above; opened devices outlive it by contract.
        unsafe { (verbs.free_device_list)(list) };
        opened.unwrap_or_else(|| {
            let operation = format!("no RDMA device {}", name.unwrap_or_default());
            Err(Failure::Kernel {
                errno: libc::ENODEV,
                operation,
            })
        })
    }

    fn open_device(verbs: &Verbs, device: *mut c_void, name: String) -> Result<Self, Failure> {
        // SAFETY: the device is an entry of a list that is not freed yet.
        let context = unsafe { (verbs.open_device)(device) };
        if context.is_null() {
            return Err(refusal(&format!("ibv_open_device {name}")));
        }
        // SAFETY: the context was just opened.
        let domain = unsafe { (verbs.alloc_pd)(context) };
        if domain.is_null() {
            return Err(refusal("ibv_alloc_pd"));
        }
        Ok(Self {
            context,
            domain,
            name,
        })
    }

    pub fn name(&self) -> String {
        self.name.clone()
    }

    pub fn register(&self, map: &Mapping, writable: bool) -> Result<Region, Failure> {
        let access = if writable { WRITABLE } else { READ_ONLY };
        let reg_mr = Verbs::get()?.reg_mr;
        // SAFETY: the domain is open, the range a mapping of this process. That the mapping may go
        // before the region does is the point of this program; the kernel keeps the pages.
        let region = unsafe { reg_mr(self.domain, map.address, map.length, access) };
        if region.is_null() {
            Err(refusal("ibv_reg_mr"))
        } else {
            Ok(Region(region))
        }
    }

    /// Closes the descriptor behind the device. Regions that are left end with it, so the domain
    /// is not given back first: that would fail while one is in use.
    pub fn close(self) -> Result<(), Failure> {
        // SAFETY: the context is open and used no more.
        answer(
            unsafe { (Verbs::get()?.close_device)(self.context) },
            "ibv_close_device",
        )
    }
}

impl Region {
    /// Gives it the pages of another mapping instead of its own.
    pub fn move_to(&self, map: &Mapping) -> Result<(), Failure> {
        const CHANGE_TRANSLATION: c_int = 1;
        self.register_again(CHANGE_TRANSLATION, map.address, map.length, 0)
    }

    pub fn change_access(&self, writable: bool) -> Result<(), Failure> {
        const CHANGE_ACCESS: c_int = 4;
        let access = if writable { WRITABLE } else { READ_ONLY };
        self.register_again(CHANGE_ACCESS, ptr::null_mut(), 0, access)
    }

    fn register_again(
        &self,
        what: c_int,
        address: *mut c_void,
        length: usize,
        access: c_int,
    ) -> Result<(), Failure> {
        let rereg_mr = Verbs::get()?.rereg_mr;
        // SAFETY: the region is registered; the domain and the range are read only where `what` asks
        // for it, and then the range is a mapping of this process.
        let returned = unsafe { rereg_mr(self.0, what, ptr::null_mut(), address, length, access) };
        if returned == 0 {
            Ok(())
        } else {
            // What it returns is a code of its own.
            Err(refusal("ibv_rereg_mr"))
        }
    }

    pub fn deregister(self) -> Result<(), Failure> {
        // SAFETY: the region was registered once and is taken out of its slot here.
        answer(unsafe { (Verbs::get()?.dereg_mr)(self.0) }, "ibv_dereg_mr")
    }
}

/// Some of the calls return an errno, some -1 with errno set.
fn answer(returned: c_int, operation: &str) -> Result<(), Failure> {
    match returned {
        0 => Ok(()),
        -1 => Err(refusal(operation)),
        errno => Err(Failure::Kernel {
            errno: errno.abs(),
            operation: operation.to_owned(),
        }),
    }
}

fn refusal(operation: &str) -> Failure {
    Failure::of(&io::Error::last_os_error(), operation)
}

/// The library's calls, as infiniband/verbs.h declares them, with its structures as opaque pointers.
struct Verbs {
    get_device_list: unsafe extern "C" fn(*mut c_int) -> *mut *mut c_void,
    free_device_list: unsafe extern "C" fn(*mut *mut c_void),
    get_device_name: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    open_device: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    close_device: unsafe extern "C" fn(*mut c_void) -> c_int,
    alloc_pd: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    reg_mr: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, c_int) -> *mut c_void,
    rereg_mr:
        unsafe extern "C" fn(*mut c_void, c_int, *mut c_void, *mut c_void, usize, c_int) -> c_int,
    dereg_mr: unsafe extern "C" fn(*mut c_void) -> c_int,
}

impl Verbs {
    fn get() -> Result<&'static Self, Failure> {
        static VERBS: OnceLock<Result<Verbs, String>> = OnceLock::new();
        VERBS
            .get_or_init(Self::load)
            .as_ref()
            .map_err(|reason| Failure::Kernel {
                errno: libc::ENOSYS,
                operation: format!("RDMA needs libibverbs: {reason}"),
            })
    }

    fn load() -> Result<Self, String> {
        // SAFETY: the library's initialisers are those of a stock system library.
        let library = unsafe { libc::dlopen(c"libibverbs.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err(last_error());
        }
        // SAFETY: each name is declared in infiniband/verbs.h with the type of the field it goes to
        // (`ibv_reg_mr` is a macro there, over a function of the same name and type); a function
        // pointer has the size of the data pointer that dlsym returns. The library stays loaded.
        unsafe {
            Ok(Self {
                get_device_list: symbol(library, "ibv_get_device_list")?,
                free_device_list: symbol(library, "ibv_free_device_list")?,
                get_device_name: symbol(library, "ibv_get_device_name")?,
                open_device: symbol(library, "ibv_open_device")?,
                close_device: symbol(library, "ibv_close_device")?,
                alloc_pd: symbol(library, "ibv_alloc_pd")?,
                reg_mr: symbol(library, "ibv_reg_mr")?,
                rereg_mr: symbol(library, "ibv_rereg_mr")?,
                dereg_mr: symbol(library, "ibv_dereg_mr")?,
            })
        }
    }
}

/// Looks up one function.
///
/// # Safety
/// `F` is the function pointer type of the symbol, and `library` an open handle.
unsafe fn symbol<F: Copy>(library: *mut c_void, name: &str) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    let c_name = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the handle is open and the name NUL-terminated.
    let address = unsafe { libc::dlsym(library, c_name.as_ptr()) };
    if address.is_null() {
        return Err(last_error());
    }
    // SAFETY: the caller vouches for the type; the sizes are equal.
    Ok(unsafe { ptr::read((&raw const address).cast::<F>()) })
}

fn last_error() -> String {
    // SAFETY: called after a failed dlopen or dlsym by the one thread that uses them, so the text is
    // there and stays until the next call.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "dlopen failed".to_owned();
    }
    // SAFETY: not null, so a NUL-terminated string.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
