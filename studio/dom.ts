/** Elements without markup in strings: whatever a text holds, it stays a text. */

export type Child = Node | string | number | undefined | readonly Child[];

type Attributes = Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>>;

/** An element; attributes that are false or undefined are left out, functions are listeners ("onclick"). */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false)
      element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

function append(element: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === undefined) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(typeof child === 'number' ? String(child) : (child as Node | string));
  }
}

/** A table that scrolls in its own box; columns after the first are numbers, right-aligned, unless `left` has them. */
export function table(
  head: readonly string[],
  rows: readonly (readonly Child[])[],
  { caption, left = [] }: { readonly caption: string; readonly left?: readonly number[] },
): HTMLElement {
  const side = (column: number) => (column === 0 || left.includes(column) ? 'left' : 'number');
  const row = (cells: readonly Child[]) =>
    h(
      'tr',
      {},
      cells.map((cell, column) =>
        column === 0 ? h('th', { scope: 'row' }, cell) : h('td', { class: side(column) }, cell),
      ),
    );
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h(
      'table',
      {},
      h('caption', { class: 'unseen' }, caption),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          head.map((cell, column) => h('th', { scope: 'col', class: side(column) }, cell)),
        ),
      ),
      h('tbody', {}, rows.map(row)),
    ),
  );
}

/** A table of few columns that hold texts: they have room side by side, and on a phone each row becomes a card. */
export function cards(
  head: readonly string[],
  bodies: Child,
  { caption, name }: { readonly caption: string; readonly name: string },
): HTMLElement {
  return h(
    'table',
    { class: `cards ${name}`, role: 'table' },
    h('caption', { class: 'unseen' }, caption),
    h(
      'thead',
      { role: 'rowgroup' },
      h(
        'tr',
        { role: 'row' },
        head.map((cell) => h('th', { scope: 'col', role: 'columnheader' }, cell)),
      ),
    ),
    bodies,
  );
}

/** A folded part; what is in it is made when it is opened, or before it is printed. */
export function folded(
  title: string,
  content: () => Child,
  { printed, name }: { readonly printed: boolean; readonly name?: string },
): HTMLElement {
  const details = h('details', { class: name ?? 'folded' }, h('summary', {}, title));
  let made = false;
  const make = () => {
    if (!made) append(details, [content()]);
    made = true;
  };
  details.addEventListener('toggle', make);
  if (printed) {
    addEventListener('beforeprint', () => {
      make();
      details.open = true;
    });
  }
  return details;
}
