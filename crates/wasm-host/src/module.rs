//! A module that was compiled and found fit to be a plugin.

use sched::framework::Event;
use wasmtime::{
    Config, Engine, ExternType, InstancePre, Linker, Module as Compiled, OptLevel, ValType, ValType::I32, ValType::I64,
};

use crate::{fault::Fault, host::Host, imports, interest::Interest, source, wasi};

/// Of a guest's own stack.
const MAX_STACK: usize = 512 << 10;
/// The export that a guest must have.
const MEMORY: &str = "memory";
/// What belongs to extension points at which guests are not asked.
const UNSUPPORTED: [&str; 2] = ["addpod", "removepod"];

/// What a guest may export, by extension point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    /// The events that help pods which it has rejected; called once.
    Enqueue,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    NormalizeScore,
    Reserve,
    Unreserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Export {
    pub const ALL: [Export; 13] = [
        Export::Enqueue,
        Export::PreFilter,
        Export::Filter,
        Export::PostFilter,
        Export::PreScore,
        Export::Score,
        Export::NormalizeScore,
        Export::Reserve,
        Export::Unreserve,
        Export::Permit,
        Export::PreBind,
        Export::Bind,
        Export::PostBind,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Export::Enqueue => "enqueue",
            Export::PreFilter => "prefilter",
            Export::Filter => "filter",
            Export::PostFilter => "postfilter",
            Export::PreScore => "prescore",
            Export::Score => "score",
            Export::NormalizeScore => "normalizescore",
            Export::Reserve => "reserve",
            Export::Unreserve => "unreserve",
            Export::Permit => "permit",
            Export::PreBind => "prebind",
            Export::Bind => "bind",
            Export::PostBind => "postbind",
        }
    }

    /// What it answers with: a status code, a code and a number together, or nothing.
    pub fn result(self) -> Option<ValType> {
        match self {
            Export::Enqueue | Export::Unreserve | Export::PostBind => None,
            Export::Score | Export::Permit | Export::PostFilter => Some(I64),
            _ => Some(I32),
        }
    }

    /// Whether a module that has nothing else is a plugin.
    fn suffices(self) -> bool {
        !matches!(self, Export::Enqueue | Export::NormalizeScore | Export::Unreserve)
    }
}

/// What makes bytes no plugin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("it is no WebAssembly module: {0}")]
    Invalid(String),
    #[error("it imports what is not offered: {0}")]
    Imports(String),
    #[error("it does not export its memory as {MEMORY:?}")]
    NoMemory,
    #[error("its export {name:?} is not a function of the type {expected}")]
    Signature { name: &'static str, expected: &'static str },
    #[error(
        "it exports none of prefilter, filter, postfilter, prescore, score, reserve, permit, prebind, bind and postbind"
    )]
    NoPoint,
    /// It was started once to see whether it can be.
    #[error("it does not start: it {0}")]
    Start(Fault),
}

/// The engine of all guests.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_STACK)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // Nobody looks at guests with a debugger or a profiler.
        .generate_address_map(false)
        .native_unwind_info(false);
    Engine::new(&config)
}

pub(crate) struct Module {
    pub pre: InstancePre<Host>,
    pub digest: String,
    /// Whether it may ask for nodes, and for where images are.
    pub wants_nodes: bool,
    pub wants_images: bool,
    /// Whether it may ask what each node said.
    pub wants_statuses: bool,
    /// Whether it compares the scores of all nodes. Without the function by which it would give them back it does not, though it
    /// may have the export: the SDK's tool for all of a plugin's functions exports them all.
    pub normalizes: bool,
    /// Exports that are not called.
    pub unsupported: Vec<&'static str>,
    exports: [bool; Export::ALL.len()],
    /// What helps pods that it has rejected.
    pub interest: Interest,
}

impl Module {
    /// Compiles bytes, which takes long: not for a task.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, ModuleError> {
        let module =
            Compiled::from_binary(engine, bytes).map_err(|error| ModuleError::Invalid(format!("{error:#}")))?;
        if !matches!(module.get_export(MEMORY), Some(ExternType::Memory(_))) {
            return Err(ModuleError::NoMemory);
        }
        let mut exports = [false; Export::ALL.len()];
        for export in Export::ALL {
            exports[export as usize] = check(&module, export)?;
        }
        if !Export::ALL.into_iter().any(|export| export.suffices() && exports[export as usize]) {
            return Err(ModuleError::NoPoint);
        }
        let pre = link(engine, &module).map_err(|error| ModuleError::Imports(format!("{error:#}")))?;
        Ok(Module {
            digest: source::digest(bytes),
            wants_nodes: imports::wants_nodes(&module),
            wants_images: imports::wants_images(&module),
            wants_statuses: imports::wants_statuses(&module),
            normalizes: exports[Export::NormalizeScore as usize] && imports::normalizes(&module),
            unsupported: UNSUPPORTED.into_iter().filter(|name| module.get_export(name).is_some()).collect(),
            exports,
            interest: Interest::default(),
            pre,
        })
    }

    pub fn has(&self, export: Export) -> bool {
        self.exports[export as usize]
    }

    pub fn helps(&self, event: &Event) -> bool {
        self.interest.includes(event)
    }
}

fn link(engine: &Engine, module: &Compiled) -> wasmtime::Result<InstancePre<Host>> {
    let mut linker = Linker::new(engine);
    imports::offer(&mut linker)?;
    wasi::offer(&mut linker)?;
    wasi::deny_rest(&mut linker, module)?;
    linker.instantiate_pre(module)
}

/// Whether the module has the export; one of another type is an error.
fn check(module: &Compiled, export: Export) -> Result<bool, ModuleError> {
    let Some(found) = module.get_export(export.name()) else { return Ok(false) };
    let fits = match &found {
        ExternType::Func(ty) => {
            let result = export.result();
            let alike = |(a, b): (ValType, &ValType)| ValType::eq(&a, b);
            ty.params().len() == 0 && ty.results().len() == result.iter().len() && ty.results().zip(&result).all(alike)
        }
        _ => false,
    };
    if fits {
        return Ok(true);
    }
    let expected = match export.result() {
        None => "() -> ()",
        Some(I64) => "() -> (i64)",
        Some(_) => "() -> (i32)",
    };
    Err(ModuleError::Signature { name: export.name(), expected })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compile(text: &str) -> Result<Module, ModuleError> {
        Module::compile(&engine().unwrap(), &wat::parse_str(text).unwrap())
    }

    const FIT: &str = r#"(module
        (import "k8s.io/scheduler" "currentNodeName" (func $name (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 8) "some text")
        (func (export "filter") (result i32) (call $name (i32.const 0) (i32.const 8)))
        (func (export "score") (result i64) (i64.const 0))
        (func (export "addpod") (result i32) (i32.const 0)))"#;

    #[test]
    fn a_fit_module_says_what_it_has() {
        let module = compile(FIT).unwrap();
        let has: Vec<_> = Export::ALL.into_iter().filter(|export| module.has(*export)).collect();
        assert_eq!(has, [Export::Filter, Export::Score]);
        assert_eq!((module.unsupported, module.wants_nodes, module.wants_images), (vec!["addpod"], false, false));
    }

    #[test]
    fn a_module_normalizes_if_it_can_give_scores_back() {
        let check = |import: &str, export: &str, expected: bool| {
            let text = format!(
                r#"(module (import "k8s.io/scheduler" "{import}" (func (param i32 i32)))
                (memory (export "memory") 1) (func (export "score") (result i64) (i64.const 0))
                (func (export "{export}") (result i32) (i32.const 0)))"#
            );
            assert_eq!(compile(&text).unwrap().normalizes, expected, "{import} {export}");
        };
        check("result.normalized_score_list", "normalizescore", true);
        check("result.normalized_score_list", "other", false);
        check("result.status_reason", "normalizescore", false);
    }

    #[test]
    fn an_unfit_module_is_refused_with_the_reason() {
        let check = |inside: &str, expected: &str| {
            let error = compile(&format!("(module {inside})")).err().unwrap().to_string();
            assert!(error.contains(expected), "{inside}: {error}");
        };
        let filter = r#"(func (export "filter") (result i32) (i32.const 0))"#;
        let memory = r#"(memory (export "memory") 1)"#;
        check(filter, "does not export its memory");
        check(memory, "exports none of prefilter, filter");
        check(
            &format!("{memory} (func (export \"reserve\"))"),
            "\"reserve\" is not a function of the type () -> (i32)",
        );
        check(&format!("{memory} (func (export \"score\") (result i32) (i32.const 0))"), "type () -> (i64)");
        check(&format!("{memory} (func (export \"permit\") (result i32) (i32.const 0))"), "type () -> (i64)");
        check(&format!("{memory} (func (export \"postbind\") (result i32) (i32.const 0))"), "type () -> ()");
        let alone = r#"(func (export "normalizescore") (result i32) (i32.const 0)) (func (export "unreserve"))"#;
        check(&format!("{memory} {alone}"), "exports none of");
        check(&format!("{memory} (global (export \"filter\") i32 (i32.const 0))"), "\"filter\" is not a function");
        let import = |module: &str, name: &str, ty: &str| {
            format!("(import \"{module}\" \"{name}\" (func {ty})) {memory} {filter}")
        };
        check(&import("env", "printf", "(param i32)"), "env");
        check(&import("k8s.io/scheduler", "shutdown", ""), "shutdown");
        check(&import("k8s.io/scheduler", "currentPod", "(param i64) (result i32)"), "currentPod");
        check(&import("wasi_snapshot_preview1", "odd", "(result i64)"), "odd");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512), magic: bool) {
            let head: &[u8] = if magic { b"\0asm\x01\0\0\0" } else { b"" };
            prop_assert!(Module::compile(&engine().unwrap(), &[head, &bytes].concat()).is_err());
        }

        /// A byte of a module that is fit is another one: what comes of it is a module, or refused.
        #[test]
        fn a_damaged_module_does_no_harm(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
            let mut bytes = wat::parse_str(FIT).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let _ = Module::compile(&engine().unwrap(), &bytes);
        }
    }
}
