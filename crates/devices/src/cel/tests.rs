//! What expressions mean for a device, and that no expression does harm.

use std::{collections::BTreeMap, sync::Arc};

use kube_schema::quantity;
use proptest::prelude::*;

use super::*;

fn map<const N: usize>(lenient: bool, entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter().map(|(key, value)| (Key::String(key.into()), value)).collect();
    Value::Map(Arc::new(Map { entries, lenient }))
}

/// A device with attributes of all kinds.
fn device() -> Arc<Subject> {
    let version = |text| Value::Semver(Arc::new(semver::Version::parse(text).unwrap()));
    let own = map(
        false,
        [
            ("model", Value::text("Fish-40")),
            ("empty", Value::text("")),
            ("numa", Value::Int(1)),
            ("ready", Value::Bool(true)),
            ("version", version("1.10.2")),
            ("services", Value::text("a_example_b")),
            ("list", Value::list(vec![Value::Int(1), Value::Int(2)])),
        ],
    );
    let memory = map(false, [("memory", Value::Quantity(quantity::parse("40Gi").unwrap()))]);
    Arc::new(Subject {
        driver: Value::text("dra.example.com"),
        allow_multiple_allocations: true,
        attributes: map(
            true,
            [("dra.example.com", own), ("other.example.com", map(false, [("x", Value::Bool(false))]))],
        ),
        capacity: map(true, [("dra.example.com", memory)]),
        flaw: None,
    })
}

fn answer(text: &str) -> Result<bool, String> {
    Program::compile(text)?.matches(&device(), &mut 0).map_err(|fault| fault.to_string())
}

/// The answer, or a part of the error's text.
fn check(text: &str, expected: Result<bool, &str>) {
    match (answer(text), expected) {
        (Err(found), Err(part)) if found.contains(part) => {}
        (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{text}"),
    }
}

/// `a` and `c` stand for the attributes and the capacity of the driver's domain.
fn check_short(text: &str, expected: Result<bool, &str>) {
    let long = text.replace("$a", r#"device.attributes["dra.example.com"]"#);
    check(&long.replace("$c", r#"device.capacity["dra.example.com"]"#), expected);
}

#[test]
fn devices_are_asked_about() {
    check("true", Ok(true));
    check("false", Ok(false));
    check(r#"device.driver == "dra.example.com""#, Ok(true));
    check("device.driver == 'other'", Ok(false));
    check("device.allowMultipleAllocations", Ok(true));
    check_short("$a.ready", Ok(true));
    check_short(r#"$a["ready"]"#, Ok(true));
    check_short("$a.numa > 0 && $a.numa <= 1", Ok(true));
    check_short(r#"$a.model == "Fish-40""#, Ok(true));
    check(r#"device.attributes["other.example.com"].x"#, Ok(false));
    check_short("$a.missing", Err("no such key: missing"));
    check(r#"device.attributes["no-domain"].missing == 1"#, Err("no such key: missing"));
    check(r#""no-domain" in device.attributes"#, Ok(false));
    check(r#""dra.example.com" in device.attributes"#, Ok(true));
    check_short(r#""numa" in $a && !("none" in $a)"#, Ok(true));
    check_short("has($a.numa) && !has($a.none)", Ok(true));
    check_short("$a.?none.orValue(7) == 7 && $a.?numa.orValue(7) == 1", Ok(true));
    check_short(r#"$a[?"none"].hasValue() || $a[?"numa"].value() == 1"#, Ok(true));
    check_short("$a.?numa.optMap(n, n + 1).orValue(0) == 2", Ok(true));
    check_short(r#"cel.bind(dra, $a, dra.numa == 1 && dra.model.startsWith("Fish"))"#, Ok(true));
    check(r#"device.attributes.exists_one(x, x == "dra.example.com")"#, Ok(true));
    check_short(r#"$a.exists(x, x == "services")"#, Ok(true));
    check_short("$a.numa.exists(x, x > 0)", Err("got 'int', expected iterable type"));
    check_short("$a.list.all(x, x > 0) && $a.list.includes(2) && $a.numa.includes(1)", Ok(true));
    check_short("$a.numa", Err("CEL result of type int could not be converted to bool"));
}

#[test]
fn quantities_and_versions_compare() {
    check_short(r#"$c.memory.compareTo(quantity("40Gi")) == 0"#, Ok(true));
    check_short(r#"$c.memory.isGreaterThan(quantity("39.9Gi")) && $c.memory.isLessThan(quantity("1Ti"))"#, Ok(true));
    check_short(r#"$c.memory == quantity("40960Mi")"#, Ok(true));
    check_short(r#"$c.memory.sub(quantity("20Gi")).add(quantity("1Gi")) == quantity("21Gi")"#, Ok(true));
    check(r#"quantity("1500m").isInteger() || quantity("50k").asInteger() != 50000"#, Ok(false));
    check(r#"quantity("1500m").asApproximateFloat() == 1.5 && quantity("-1").sign() == -1"#, Ok(true));
    check(r#"isQuantity("10Mo")"#, Ok(false));
    check(r#"quantity("10Mo") == quantity("1")"#, Err("unable to parse quantity's suffix"));
    check_short(r#"$c.none.isGreaterThan(quantity("0"))"#, Err("no such key: none"));
    check_short(r#"$a.version.isGreaterThan(semver("1.9.9")) && $a.version.isLessThan(semver("1.10.10"))"#, Ok(true));
    check_short(r#"$a.version == semver("1.10.2") && $a.version.minor() == 10"#, Ok(true));
    check_short(r#"$a.version.compareTo(semver("v1.10", true)) == 1 && isSemver("v01.2", true)"#, Ok(true));
    check(r#"isSemver("v1.2.3") || isSemver("1.2")"#, Ok(false));
    check(r#"semver("1.0.0-alpha").isLessThan(semver("1.0.0"))"#, Ok(true));
}

#[test]
fn the_language_is_there() {
    check("1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 % 4 == 3 && -7 / 2 == -3", Ok(true));
    check("1u + 2u == 3 && 0x10 == 16 && 1.5e1 == 15.0 && 1 < 1.5", Ok(true));
    check("-9223372036854775808 < 0 && !!true && - -1 == 1", Ok(true));
    check("9223372036854775807 + 1 == 0", Err("overflow"));
    check("1 / 0 == 1", Err("division by zero"));
    check("false && 1 / 0 == 1 || true", Ok(true));
    check("1 / 0 == 1 || true", Ok(true));
    check("1 / 0 == 1 && false", Ok(false));
    check("1 / 0 == 1 && true", Err("division by zero"));
    check("true ? 1 == 1 : 1 / 0 == 1", Ok(true));
    check(r#"[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].filter(x, x > 1).size() == 2"#, Ok(true));
    check("[1, 2, 3].map(x, x > 1, x * 2) == [4, 6] && 2 in [1, 2] && [1, 2][1] == 2", Ok(true));
    check("[1][1] == 1", Err("index out of bounds: 1"));
    check("[1, 2].exists(x, x / 0 == 1 || x == 2)", Ok(true));
    check("[0, 1].all(x, 1 / x > 0)", Err("division by zero"));
    check("[0, 1].exists(x, 1 / x == 1)", Ok(true));
    check(r#"{"a": 1, "b": [2]}.b[0] == 2 && {1: true}[1] && size({"a": 1}) == 1"#, Ok(true));
    check(r#"{"a": 1, "a": 2}.a == 1"#, Err("Failed with repeated key"));
    check(r#""a\t\u00e9\x41\101" == "a	éAA" && r"\d" == "\\d" && """a"b""" == 'a"b' && b"\xff".size() == 1"#, Ok(true));
    check(
        r#"type(1) == int && type("") == string && type([]) == list && string(12) == "12" && int("12") == 12"#,
        Ok(true),
    );
    check("int(1.9) == 1 && double(2) == 2.0 && uint(3) == 3u && bool('true')", Ok(true));
    check("int('x') == 1", Err("type conversion error"));
    check("// a comment\n true", Ok(true));
    check("optional.of(1).or(optional.none()).value() == 1 && optional.ofNonZeroValue(0).orValue(5) == 5", Ok(true));
    check("[3, 1, 2].max() == 3 && [1, 2].isSorted() && [1, 2].sum() == 3 && [1, 2].indexOf(2) == 1", Ok(true));
    check("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", Ok(true));
    check("[1, 2,] == [1, 2] && dyn(1) == 1.0 && 1 != 2", Ok(true));
}

#[test]
fn texts_have_functions() {
    check_short(r#"$a.model.lowerAscii() == "fish-40" && $a.model.upperAscii() == "FISH-40""#, Ok(true));
    check_short(r#"$a.model.matches("^Fish-[0-9]+$") && !matches($a.model, "bird")"#, Ok(true));
    check_short(r#"$a.model.matches("F" + "[a-z]+") && $a.model.contains("sh") && $a.model.endsWith("40")"#, Ok(true));
    check_short(
        r#"$a.services.split("example").size() == 2 && $a.services.split("") .join("") == $a.services"#,
        Ok(true),
    );
    check(r#"["a", "b"].join("-") == "a-b" && "a-b-c".split("-", 2) == ["a", "b-c"]"#, Ok(true));
    check(r#""héllo".size() == 5 && "héllo".charAt(1) == "é" && "héllo".substring(1, 3) == "él""#, Ok(true));
    check(r#""abcabc".indexOf("c") == 2 && "abcabc".lastIndexOf("a") == 3 && "abc".indexOf("b", 2) == -1"#, Ok(true));
    check(
        r#""aab".replace("a", "x") == "xxb" && "aab".replace("a", "x", 1) == "xab" && " a ".trim() == "a""#,
        Ok(true),
    );
    check(r#""abc 12 3".find("[0-9]+") == "12" && "1 2 3".findAll("[0-9]", 2) == ["1", "2"]"#, Ok(true));
    check(r#""abc".substring(2, 1) == """#, Err("invalid substring range"));
    check(r#""abc".charAt(9) == """#, Err("index out of range: 9"));
}

#[test]
fn what_is_wrong_is_said_when_it_is_compiled() {
    check("?!", Err("ERROR: <input>:1:1: Syntax error: unexpected '?'"));
    check("1", Err("must evaluate to bool or the unknown type, not int"));
    check("noSuchVar == 1", Err("undeclared reference to 'noSuchVar' (in container '')\n | noSuchVar == 1\n | ^"));
    check("device.noSuchField == 1", Err("undefined field 'noSuchField'"));
    check("noSuchFunction()", Err("undeclared reference to 'noSuchFunction'"));
    check("device.driver == 1", Err("found no matching overload for '_==_' applied to '(string, int)'"));
    check("device.driver.startsWith(1)", Err("found no matching overload for 'startsWith' applied to '(string, int)'"));
    check("device.driver.startsWith()", Err("found no matching overload for 'startsWith'"));
    check("device.driver.all(x, true)", Err("cannot be range of a comprehension"));
    check("[1].all(x, x)", Err("no such overload"));
    check("[1].all(x.y, true)", Err("argument must be a simple name"));
    check("[1].all(x, 1)", Err("expected type 'bool' but found 'int'"));
    check("has(device)", Err("invalid argument to has() macro"));
    check("true &&", Err("Syntax error: unexpected <EOF>"));
    check("true true", Err("Syntax error: unexpected 'true'"));
    check("true &&\n  'a", Err("ERROR: <input>:2:3: Syntax error: unterminated string literal\n |   'a\n | ..^"));
    check("(true", Err("unexpected <EOF>"));
    check("for == 1", Err("reserved identifier"));
    check("''.matches('[')", Err("invalid matches argument"));
    check("x.all(x, true)", Err("undeclared reference to 'x'"));
    check("9223372036854775808 == 1", Err("invalid int literal"));
    check("'\\q' == ''", Err("invalid escape sequence"));
    check(&format!("'{}' == ''", "x".repeat(MAX_EXPRESSION_BYTES)), Err("expression is longer than 10240 bytes"));
}

#[test]
fn a_flawed_device_answers_no_expression() {
    let flawed = Arc::new(Subject { flaw: Some("attribute a: unsupported attribute value".to_owned()), ..plain() });
    let answer = Program::compile("true").unwrap().matches(&flawed, &mut 0).map_err(|fault| fault.to_string());
    assert_eq!(answer, Err("attribute a: unsupported attribute value".to_owned()));
}

fn plain() -> Subject {
    Subject {
        driver: Value::text("d"),
        allow_multiple_allocations: false,
        attributes: Value::Map(Arc::new(Map { entries: BTreeMap::new(), lenient: true })),
        capacity: Value::Map(Arc::default()),
        flaw: None,
    }
}

#[test]
fn hostile_expressions_are_refused_or_end_soon() {
    let refused = |text: String, part: &str| match answer(&text) {
        Err(found) if found.contains(part) => {}
        other => panic!("{}…: {other:?}", &text[..text.len().min(60)]),
    };
    let limit = "recursion limit exceeded";
    refused("(".repeat(9_000), limit);
    refused("[".repeat(9_000), limit);
    refused("{1:".repeat(3_000), limit);
    refused("1 + ".repeat(2_000) + "1 == 1", limit);
    refused("true ? true : ".repeat(700), limit);
    refused(format!("device{} == 1", ".x".repeat(4_000)), limit);
    refused(format!("device{} == 1", "[0]".repeat(3_000)), limit);
    refused(format!("{}true", "[1].all(x, ".repeat(500)), limit);
    check(&format!("{}true", "!".repeat(9_000)), Ok(true));
    check(&format!("{}1 == 1", "-".repeat(8_000)), Ok(true));
    check(&vec!["true"; 1_000].join(" && "), Ok(true));
    let cost = "actual cost limit exceeded";
    let numbers = format!("[{}]", vec!["1"; 100].join(","));
    refused(format!("{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, {numbers}.all(d, true))))"), cost);
    let doubling = (1..60).fold("v0 == ''".to_owned(), |body, at| {
        // The innermost body sees v0, the outermost binding is v59.
        format!("cel.bind(v{}, v{at} + v{at}, {body})", at - 1)
    });
    refused(format!("cel.bind(v59, 'xxxxxxxxxx', {doubling})"), cost);
    refused(format!("'{}'.replace('', '{}').replace('', '{0}') == ''", "x".repeat(3_000), "y".repeat(3_000)), cost);
    refused(format!("{numbers}.all(a, {numbers}.all(b, '1'.matches(string(b))))"), cost);
    refused(format!("''.matches('{}')", "(a{100}){100}".repeat(20)), "invalid matches argument");
    refused((0..40).map(|at| format!("''.matches('{at}')")).collect::<Vec<_>>().join("||"), "more than 32 patterns");
    // An error of cost is no error that an `||` makes good.
    refused(format!("true && ({numbers}.all(a, {numbers}.all(b, {numbers}.all(c, true))) || true) || true"), cost);
}

/// Pieces that make nearly right expressions.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "device",
        ".driver",
        ".attributes",
        ".capacity",
        "[\"dra.example.com\"]",
        ".numa",
        ".model",
        ".memory",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        " in ",
        "1",
        "2u",
        "1.5",
        "'a'",
        "b'a'",
        "true",
        "null",
        "x",
        ".all(x,",
        ".exists(x,",
        ".map(x,",
        ".filter(x,",
        "has(",
        "cel.bind(x,",
        "size(",
        "quantity('1Gi')",
        "semver('1.2.3')",
        ".compareTo(",
        ".isGreaterThan(",
        ".?",
        "[?",
        ".orValue(",
        ".split('')",
        ".replace('','ab')",
        ".substring(1)",
        ".matches('a')",
        ".join()",
        "optional.of(",
        ".lastIndexOf('é', 1)",
        "'é€'",
        ".charAt(",
        ".add(",
        "9223372036854775807",
        "-9223372036854775808",
        "\n",
        "//",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the text, there is an answer or an error.
    #[test]
    fn any_text_is_answered_or_refused(text in any::<String>()) {
        drop(answer(&text));
    }

    #[test]
    fn nearly_right_expressions_are_answered_or_refused(text in pieces()) {
        drop(answer(&text));
    }

    /// Arithmetic and precedence agree with Rust's.
    #[test]
    fn sums_and_products_are_right(a in -1000i64..1000, b in -1000i64..1000, c in 1i64..1000) {
        let wanted = a + b * c - a % c;
        prop_assert_eq!(answer(&format!("{a} + {b} * {c} - {a} % {c} == {wanted}")), Ok(true));
        prop_assert_eq!(answer(&format!("{a} < {b} == ({a} < {b})")), Ok(true));
    }
}
