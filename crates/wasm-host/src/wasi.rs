//! As much of WASI (preview 1) as a language's runtime needs to start: an output that is kept for error messages, a clock,
//! entropy and arguments. There are no files, no environment and no sockets: everything else answers that it is not there.

use wasmtime::{Caller, ExternType, Linker, Module, Result, Val, ValType};

use crate::{
    fault::Fault,
    host::{Host, View},
};

const MODULE: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
/// No such file descriptor.
const BADF: i32 = 8;
const INVAL: i32 = 28;
/// Not supported.
const NOSYS: i32 = 52;
/// Pieces of one write.
const MAX_PIECES: u32 = 1024;
/// Entropy for one call.
const MAX_RANDOM: u32 = 64 << 10;
const REALTIME: i32 = 0;
const OFFERED: [&str; 9] = [
    "fd_write",
    "fd_prestat_get",
    "proc_exit",
    "clock_time_get",
    "random_get",
    "args_sizes_get",
    "args_get",
    "environ_sizes_get",
    "environ_get",
];

/// Offers what is there.
pub(crate) fn offer(linker: &mut Linker<Host>) -> Result<()> {
    let [write, prestat, exit, clock, random, arg_sizes, args, env_sizes, env] = OFFERED;
    linker.func_wrap(MODULE, write, fd_write)?;
    // Programs look for folders that they were given until there is none.
    linker.func_wrap(MODULE, prestat, |_: i32, _: u32| BADF)?;
    linker.func_wrap(MODULE, exit, |code: i32| -> Result<()> { Err(Fault::Exit(code).into()) })?;
    linker.func_wrap(MODULE, clock, clock_time_get)?;
    linker.func_wrap(MODULE, random, random_get)?;
    linker.func_wrap(MODULE, arg_sizes, args_sizes_get)?;
    linker.func_wrap(MODULE, args, args_get)?;
    linker.func_wrap(MODULE, env_sizes, environ_sizes_get)?;
    linker.func_wrap(MODULE, env, |_: u32, _: u32| SUCCESS)?;
    Ok(())
}

/// Answers for what a module imports beside that.
pub(crate) fn deny_rest(linker: &mut Linker<Host>, module: &Module) -> Result<()> {
    let others = module.imports().filter(|import| import.module() == MODULE && !OFFERED.contains(&import.name()));
    for import in others {
        let ExternType::Func(ty) = import.ty() else { continue };
        // All of WASI's functions answer with an error number; what answers otherwise is not WASI's, and stays unknown.
        if ty.results().map(|result| matches!(result, ValType::I32)).ne([true]) {
            continue;
        }
        linker.func_new(MODULE, import.name(), ty, |_, _, results| {
            results[0] = Val::I32(NOSYS);
            Ok(())
        })?;
    }
    Ok(())
}

/// Standard output and error are one text.
fn fd_write(mut caller: Caller<'_, Host>, file: i32, pieces: u32, count: u32, written: u32) -> Result<i32> {
    let mut view = View::new(&mut caller, OFFERED[0])?;
    if !(1..=2).contains(&file) {
        return Ok(BADF);
    }
    if count > MAX_PIECES {
        return Ok(INVAL);
    }
    let mut total: u32 = 0;
    for piece in 0..count {
        let pair = view.read(pieces.wrapping_add(piece * 8), 8)?;
        let number = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
        let (at, len) = (number(0), number(4));
        // No more is copied than is kept.
        let kept = view.read(at, len)?.iter().take(crate::host::MAX_OUTPUT).copied().collect::<Vec<u8>>();
        view.host().print(&kept);
        total = total.saturating_add(len);
    }
    view.write(written, &total.to_le_bytes())?;
    Ok(SUCCESS)
}

fn clock_time_get(mut caller: Caller<'_, Host>, clock: i32, _precision: i64, at: u32) -> Result<i32> {
    let mut view = View::new(&mut caller, OFFERED[3])?;
    let source = &view.host().about.clock;
    let nanos = match clock {
        REALTIME => source.now().as_nanosecond(),
        _ => i128::try_from(source.monotonic().as_nanos()).unwrap_or(i128::MAX),
    };
    let nanos = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
    view.write(at, &nanos.to_le_bytes())?;
    Ok(SUCCESS)
}

fn random_get(mut caller: Caller<'_, Host>, at: u32, len: u32) -> Result<i32> {
    if len > MAX_RANDOM {
        return Ok(INVAL);
    }
    let words = len.div_ceil(8);
    let bytes: Vec<u8> = (0..words).flat_map(|_| runtime::entropy::random_u64().to_le_bytes()).collect();
    View::new(&mut caller, OFFERED[4])?.write(at, &bytes[..len as usize])?;
    Ok(SUCCESS)
}

fn args_sizes_get(mut caller: Caller<'_, Host>, count: u32, size: u32) -> Result<i32> {
    let mut view = View::new(&mut caller, OFFERED[5])?;
    let args = command_line(view.host());
    let bytes: usize = args.iter().map(Vec::len).sum();
    let [args, bytes] = [args.len(), bytes].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    view.write(count, &args.to_le_bytes())?;
    view.write(size, &bytes.to_le_bytes())?;
    Ok(SUCCESS)
}

fn args_get(mut caller: Caller<'_, Host>, places: u32, mut at: u32) -> Result<i32> {
    let mut view = View::new(&mut caller, OFFERED[6])?;
    for (number, arg) in (0u32..).zip(command_line(view.host())) {
        view.write(places.wrapping_add(number * 4), &at.to_le_bytes())?;
        view.write(at, &arg)?;
        at = at.wrapping_add(u32::try_from(arg.len()).unwrap_or(u32::MAX));
    }
    Ok(SUCCESS)
}

fn environ_sizes_get(mut caller: Caller<'_, Host>, count: u32, size: u32) -> Result<i32> {
    let mut view = View::new(&mut caller, OFFERED[7])?;
    view.write(count, &0u32.to_le_bytes())?;
    view.write(size, &0u32.to_le_bytes())?;
    Ok(SUCCESS)
}

/// The arguments, each with the zero that ends it.
fn command_line(host: &Host) -> Vec<Vec<u8>> {
    host.about.arguments.args.iter().map(|arg| [arg.as_bytes(), &[0]].concat()).collect()
}
