//! What do a machine's NVIDIA GPUs say of themselves, and how much may they draw?
//!
//! NVML, the library that comes with NVIDIA's driver, is loaded when a node begins, by its name ([`LIBRARY`]) as the dynamic linker finds it. Nothing of it is needed to build
//! this, and a machine without it is a machine that shows no GPU: [`Library::open`] says what the linker said.
//!
//! Each GPU tells its temperature, the one at which it is slowed by its maker's will and the one from which it should not work at full speed, what it draws, and how busy it is. What one does not tell is
//! absent. A power limit may be set where the driver permits it (to root, on most boards); what it was is set back as frequencies are ([`crate::frequency`]).

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As the driver installs it.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// In a node's directory.
pub const BEFORE: &str = "power-limits.before";

/// A GPU as it was read last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Read {
    /// Its identifier.
    pub uuid: String,
    /// What its maker calls it.
    pub name: String,
    /// In degrees Celsius.
    pub celsius: Option<f64>,
    /// From here on it should not run at full speed, in degrees Celsius.
    pub throttle_celsius: Option<f64>,
    /// Here its hardware slows it, in degrees Celsius.
    pub slowdown_celsius: Option<f64>,
    /// What it draws, in watts.
    pub watts: Option<f64>,
    /// What it may draw, in watts.
    pub limit_watts: Option<f64>,
    /// For how much of the time it was busy, 0 to 1.
    pub busy: Option<f64>,
}

// The names and numbers are those of nvml.h, whose functions keep them for good; a newer form has a suffix.
const SUCCESS: c_int = 0;
const TEMPERATURE_GPU: c_int = 0;
const THRESHOLD_SLOWDOWN: c_int = 1;
const THRESHOLD_GPU_MAX: c_int = 3;
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE` and `NVML_DEVICE_NAME_V2_BUFFER_SIZE`.
const TEXT_MAX: usize = 96;

type Handle = *mut c_void;

#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

type OfText = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> c_int;
type OfNumber = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
type OfKind = unsafe extern "C" fn(Handle, c_int, *mut c_uint) -> c_int;

/// The library, begun.
#[derive(Debug)]
pub struct Library {
    devices: Vec<Gpu>,
    end: unsafe extern "C" fn() -> c_int,
    error: Option<unsafe extern "C" fn(c_int) -> *const c_char>,
    temperature: Option<OfKind>,
    threshold: Option<OfKind>,
    power: Option<OfNumber>,
    limit: Option<OfNumber>,
    utilization: Option<unsafe extern "C" fn(Handle, *mut Utilization) -> c_int>,
    constraints: Option<unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> c_int>,
    set_limit: Option<unsafe extern "C" fn(Handle, c_uint) -> c_int>,
}

#[derive(Debug)]
struct Gpu {
    handle: Handle,
    uuid: String,
    name: String,
}

/// A function of a loaded library.
///
/// # Safety
/// `F` is the type of a function pointer, and that of what the library has under this name.
unsafe fn symbol<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is loaded and the name ends with a zero; what is found is not called here.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    // SAFETY: of one size, and by the caller's promise of that type.
    (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
}

impl Library {
    /// Loads it, by a name that the dynamic linker looks for or by a path, and begins.
    ///
    /// # Errors
    /// Why there is none, in a few words.
    pub fn open(library: &Path) -> Result<Self, String> {
        let name = CString::new(library.as_os_str().as_encoded_bytes())
            .map_err(|_| format!("{}: a zero byte", library.display()))?;
        // SAFETY: the name ends with a zero. Its initialisers run: it is the driver's, or what the node's owner names.
        let loaded = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if loaded.is_null() {
            // SAFETY: a string that lives until the next call of this thread, or nothing.
            let said = unsafe { libc::dlerror().as_ref().map(|said| CStr::from_ptr(said)) };
            let said = said.map_or_else(String::new, |said| said.to_string_lossy().into_owned());
            return Err(said);
        }
        let lacks = |name: &str| format!("{} has no {name}", library.display());
        // SAFETY: as nvml.h declares each. The library is never unloaded, so what was found stays.
        let (begin, end, error, count, handle, uuid, called) = unsafe {
            (
                symbol::<unsafe extern "C" fn() -> c_int>(loaded, c"nvmlInit_v2")
                    .ok_or_else(|| lacks("nvmlInit_v2"))?,
                symbol(loaded, c"nvmlShutdown").ok_or_else(|| lacks("nvmlShutdown"))?,
                symbol(loaded, c"nvmlErrorString"),
                symbol::<unsafe extern "C" fn(*mut c_uint) -> c_int>(
                    loaded,
                    c"nvmlDeviceGetCount_v2",
                )
                .ok_or_else(|| lacks("nvmlDeviceGetCount_v2"))?,
                symbol::<unsafe extern "C" fn(c_uint, *mut Handle) -> c_int>(
                    loaded,
                    c"nvmlDeviceGetHandleByIndex_v2",
                )
                .ok_or_else(|| lacks("nvmlDeviceGetHandleByIndex_v2"))?,
                symbol::<OfText>(loaded, c"nvmlDeviceGetUUID")
                    .ok_or_else(|| lacks("nvmlDeviceGetUUID"))?,
                symbol::<OfText>(loaded, c"nvmlDeviceGetName"),
            )
        };
        // SAFETY: likewise.
        let mut begun = unsafe {
            Self {
                devices: Vec::new(),
                end,
                error,
                temperature: symbol(loaded, c"nvmlDeviceGetTemperature"),
                threshold: symbol(loaded, c"nvmlDeviceGetTemperatureThreshold"),
                power: symbol(loaded, c"nvmlDeviceGetPowerUsage"),
                limit: symbol(loaded, c"nvmlDeviceGetPowerManagementLimit"),
                utilization: symbol(loaded, c"nvmlDeviceGetUtilizationRates"),
                constraints: symbol(loaded, c"nvmlDeviceGetPowerManagementLimitConstraints"),
                set_limit: symbol(loaded, c"nvmlDeviceSetPowerManagementLimit"),
            }
        };
        // SAFETY: takes nothing.
        let code = unsafe { begin() };
        if code != SUCCESS {
            let said = begun.words(code);
            // There is nothing to end.
            std::mem::forget(begun);
            return Err(said);
        }
        let mut devices = 0;
        // SAFETY: writes the number.
        let code = unsafe { count(&raw mut devices) };
        if code != SUCCESS {
            return Err(begun.words(code));
        }
        for index in 0..devices {
            let mut device = std::ptr::null_mut();
            // SAFETY: writes the handle, which stays good until the end.
            if unsafe { handle(index, &raw mut device) } != SUCCESS {
                // It has fallen off the bus: the others are there.
                continue;
            }
            let uuid = text(uuid, device).unwrap_or_else(|| format!("index {index}"));
            let name = called.and_then(|called| text(called, device));
            begun.devices.push(Gpu {
                handle: device,
                uuid,
                name: name.unwrap_or_default(),
            });
        }
        Ok(begun)
    }

    /// What an error is called.
    fn words(&self, code: c_int) -> String {
        let said = self.error.and_then(|error| {
            // SAFETY: gives a string that lives as long as the library, or nothing.
            let said = unsafe { error(code).as_ref() }?;
            // SAFETY: likewise; it ends with a zero.
            Some(
                unsafe { CStr::from_ptr(said) }
                    .to_string_lossy()
                    .into_owned(),
            )
        });
        said.unwrap_or_else(|| format!("error {code}"))
    }

    /// How many GPUs it shows.
    #[must_use]
    pub fn number(&self) -> usize {
        self.devices.len()
    }

    /// Every GPU, as it is now.
    #[must_use]
    pub fn read(&self) -> Vec<Read> {
        let all = self.devices.iter().map(|gpu| {
            let number = |of: Option<OfNumber>| {
                let mut found = 0;
                // SAFETY: a handle of this library; it writes the number.
                let code = unsafe { of?(gpu.handle, &raw mut found) };
                (code == SUCCESS).then_some(f64::from(found))
            };
            let of_kind = |of: Option<OfKind>, kind| {
                let mut found = 0;
                // SAFETY: likewise.
                let code = unsafe { of?(gpu.handle, kind, &raw mut found) };
                (code == SUCCESS).then_some(f64::from(found))
            };
            let mut used = Utilization::default();
            let busy = self.utilization.and_then(|of| {
                // SAFETY: likewise, both numbers.
                let code = unsafe { of(gpu.handle, &raw mut used) };
                (code == SUCCESS).then(|| f64::from(used.gpu.min(100)) / 100.0)
            });
            let celsius = of_kind(self.temperature, TEMPERATURE_GPU);
            Read {
                uuid: gpu.uuid.clone(),
                name: gpu.name.clone(),
                celsius: celsius.filter(|celsius| *celsius < 200.0),
                throttle_celsius: of_kind(self.threshold, THRESHOLD_GPU_MAX),
                slowdown_celsius: of_kind(self.threshold, THRESHOLD_SLOWDOWN),
                watts: number(self.power).map(|milliwatts| milliwatts / 1e3),
                limit_watts: number(self.limit).map(|milliwatts| milliwatts / 1e3),
                busy,
            }
        });
        all.collect()
    }

    /// From and to which power limit a GPU may be set, in thousandths of a watt.
    #[must_use]
    pub fn bounds(&self, uuid: &str) -> Option<(u32, u32)> {
        let (mut least, mut most) = (0, 0);
        let gpu = self.gpu(uuid)?;
        // SAFETY: a handle of this library; it writes both numbers.
        let code = unsafe { self.constraints?(gpu.handle, &raw mut least, &raw mut most) };
        (code == SUCCESS && 0 < least && least <= most).then_some((least, most))
    }

    /// Lets a GPU draw so much, in thousandths of a watt.
    ///
    /// # Errors
    /// What the driver says, such as that it is not permitted.
    pub fn set_limit(&self, uuid: &str, milliwatts: u32) -> Result<(), String> {
        let (Some(set), Some(gpu)) = (self.set_limit, self.gpu(uuid)) else {
            return Err("there is no such GPU, or its limit is fixed".to_owned());
        };
        // SAFETY: a handle of this library, and a number.
        match unsafe { set(gpu.handle, milliwatts) } {
            SUCCESS => Ok(()),
            code => Err(self.words(code)),
        }
    }

    fn gpu(&self, uuid: &str) -> Option<&Gpu> {
        self.devices.iter().find(|gpu| gpu.uuid == uuid)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: it was begun, and no handle is used after this.
        unsafe { (self.end)() };
    }
}

fn text(of: OfText, device: Handle) -> Option<String> {
    let mut found = [0_u8; TEXT_MAX];
    // SAFETY: a handle of this library, which writes at most so many bytes, a zero at their end.
    let code = unsafe { of(device, found.as_mut_ptr().cast(), TEXT_MAX as c_uint) };
    let text = CStr::from_bytes_until_nul(&found).ok()?;
    (code == SUCCESS).then(|| text.to_string_lossy().into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A library that says what a machine with two GPUs would, of which the second tells less, and that lets a limit be set where a file says so. It keeps what
    /// was set in a file, as a driver does longer than any process. None where nothing compiles C.
    pub(crate) fn library(folder: &Path) -> Option<PathBuf> {
        let source = folder.join("nvml.c");
        std::fs::write(&source, include_str!("nvml.c")).unwrap();
        let library = folder.join("libnvidia-ml.so.1");
        let kept = format!("-DFOLDER=\"{}\"", folder.display());
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(kept)
            .arg(&source)
            .status();
        match built {
            Ok(status) => {
                assert!(status.success(), "cc refused nvml.c");
                Some(library)
            }
            Err(error) => {
                println!("skipped: nothing here compiles C: {error}");
                None
            }
        }
    }

    #[test]
    fn two_gpus_are_read_and_what_one_does_not_tell_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = library(folder.path()) else {
            return;
        };
        let library = Library::open(&path).unwrap();
        let read = library.read();
        assert_eq!(
            read[0],
            Read {
                uuid: "GPU-0".into(),
                name: "A card".into(),
                celsius: Some(61.0),
                throttle_celsius: Some(87.0),
                slowdown_celsius: Some(95.0),
                watts: Some(312.5),
                limit_watts: Some(700.0),
                busy: Some(0.42),
            }
        );
        assert_eq!(
            (read[1].uuid.as_str(), read[1].celsius),
            ("GPU-1", Some(30.0))
        );
        assert_eq!((read[1].watts, read[1].busy), (None, None));
        assert_eq!(library.bounds("GPU-0"), Some((200_000, 700_000)));
        assert_eq!(library.bounds("GPU-1"), None);
        // Not before somebody permits it.
        assert_eq!(
            library.set_limit("GPU-0", 300_000),
            Err("Insufficient Permissions".to_owned())
        );
        std::fs::write(folder.path().join("permitted"), "").unwrap();
        assert_eq!(library.set_limit("GPU-0", 300_000), Ok(()));
        assert_eq!(library.read()[0].limit_watts, Some(300.0));
    }

    #[test]
    fn a_machine_without_the_library_says_what_the_linker_said() {
        let error = Library::open(Path::new("libno-such-library.so.1")).unwrap_err();
        assert!(error.contains("libno-such-library.so.1"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other.so");
        std::fs::write(&other, "no library").unwrap();
        assert!(Library::open(&other).unwrap_err().contains("other.so"));
    }
}
