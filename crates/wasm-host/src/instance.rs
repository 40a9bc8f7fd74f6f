//! One running guest: its memory, its functions, and the limits of each call. After a fault it is good for nothing.

use std::sync::Arc;

use wasmtime::{Store, Trap, TypedFunc, ValType, WasmResults};

use crate::{
    fault::{Fault, MAX_WORDS, words},
    host::{About, Call, Host},
    module::{Export, Module},
    ticker::Ticker,
};

/// What a command calls to begin, and what a library does.
const COMMAND: &str = "_start";
const LIBRARY: &str = "_initialize";

pub(crate) struct Instance {
    store: Store<Host>,
    /// By export, and by what it answers with.
    codes: ByExport<i32>,
    packed: ByExport<i64>,
    silent: ByExport<()>,
}

type ByExport<R> = [Option<TypedFunc<(), R>>; Export::ALL.len()];

/// What a call answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: i32,
    /// The score, how long to wait, or whether a node is nominated.
    pub number: i32,
}

impl Instance {
    /// A new one, which has begun.
    pub fn start(module: &Module, about: &Arc<About>, ticker: &Ticker) -> Result<Self, Fault> {
        let mut store = Store::new(module.pre.module().engine(), Host::new(about.clone()));
        store.limiter(|host| host);
        let instance = limited(&mut store, ticker, |store| module.pre.instantiate(store))?;
        let mut this = Instance {
            codes: Export::ALL.map(|export| instance.get_typed_func(&mut store, export.name()).ok()),
            packed: Export::ALL.map(|export| instance.get_typed_func(&mut store, export.name()).ok()),
            silent: Export::ALL.map(|export| instance.get_typed_func(&mut store, export.name()).ok()),
            store,
        };
        for name in [LIBRARY, COMMAND] {
            let Ok(begin) = instance.get_typed_func::<(), ()>(&mut this.store, name) else { continue };
            match run(&mut this.store, ticker, &begin) {
                // A command that has done its work; what it has set up stays.
                Ok(()) | Err(Fault::Exit(0)) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(this)
    }

    /// Calls an export that the module has; `call` says what it is about, and has what the guest said afterwards.
    pub fn call(&mut self, export: Export, call: &mut Call, ticker: &Ticker) -> Result<Answer, Fault> {
        self.store.data_mut().call = std::mem::take(call);
        let (store, at) = (&mut self.store, export as usize);
        let answer = match export.result() {
            None => self.silent[at].as_ref().map(|function| run(store, ticker, function).map(|()| Answer::default())),
            Some(ValType::I64) => self.packed[at].as_ref().map(|function| {
                run(store, ticker, function).map(|packed| {
                    let (low, high) = halves(packed);
                    match export {
                        Export::Permit => Answer { code: high, number: low },
                        _ => Answer { code: low, number: high },
                    }
                })
            }),
            Some(_) => self.codes[at]
                .as_ref()
                .map(|function| run(store, ticker, function).map(|code| Answer { code, number: 0 })),
        };
        *call = std::mem::take(&mut self.store.data_mut().call);
        answer.expect("the module was checked for the export and its type")
    }
}

/// The lower and the upper half of a number.
fn halves(packed: i64) -> (i32, i32) {
    let [a, b, c, d, e, f, g, h] = packed.to_le_bytes();
    (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
}

fn run<R: WasmResults>(store: &mut Store<Host>, ticker: &Ticker, function: &TypedFunc<(), R>) -> Result<R, Fault> {
    limited(store, ticker, |store| function.call(store, ()))
}

/// Lets the guest run within its limits.
fn limited<R>(
    store: &mut Store<Host>,
    ticker: &Ticker,
    body: impl FnOnce(&mut Store<Host>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    let limits = &store.data().about.arguments.limits;
    let (fuel, timeout) = (limits.fuel, limits.timeout);
    store.set_fuel(fuel).expect("the engine counts fuel");
    store.set_epoch_deadline(Ticker::ticks(timeout));
    let running = ticker.begin();
    let result = body(store);
    drop(running);
    result.map_err(|error| fault(&error, store.data()))
}

/// What went wrong.
fn fault(error: &wasmtime::Error, host: &Host) -> Fault {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    let limits = &host.about.arguments.limits;
    let mut text = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::Fuel(limits.fuel),
        Some(Trap::Interrupt) => return Fault::Time(limits.timeout),
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None => error.to_string(),
    };
    // What it has printed is most often the reason.
    let printed = words(&host.call.output, MAX_WORDS);
    if !printed.is_empty() {
        text = format!("{text}: {printed}");
    }
    Fault::Trap(text)
}
