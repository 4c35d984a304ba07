/** Strict well-formedness, which lenient parsers do not tell: quoted attributes, balanced tags, one root, entities. */
const TOKEN = /<(\/?)([A-Za-z][\w:.-]*)((?:\s+[\w:.-]+="[^"<]*")*)\s*(\/?)>|[^<]+/y;
const LOOSE_AMPERSAND = /&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)/;

/** Throws an Error that says what is wrong and where. */
export function checkXml(xml: string): void {
  const open: string[] = [];
  let roots = 0;
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(`${what} at ${at}: ${xml.slice(at, at + 80)}`);
  };
  while (at < xml.length) {
    TOKEN.lastIndex = at;
    const [token, closing, name, attributes, empty] = TOKEN.exec(xml) ?? fail("no tag and no text");
    if (LOOSE_AMPERSAND.test(token)) fail("a loose ampersand");
    if (name === undefined) {
      if (open.length === 0 && token.trim() !== "") fail("text outside the root");
    } else if (closing) {
      if (open.pop() !== name) fail("a tag closed that was not open");
    } else {
      const names = [...attributes.matchAll(/([\w:.-]+)="/g)].map((match) => match[1]);
      if (new Set(names).size !== names.length) fail("an attribute twice");
      if (open.length === 0) roots++;
      if (!empty) open.push(name);
    }
    at += token.length;
  }
  if (open.length > 0) fail(`${open.join(", ")} not closed`);
  if (roots !== 1) fail(`${roots} roots`);
}
