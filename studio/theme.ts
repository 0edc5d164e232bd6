/** Light or dark: as the system is, or as the reader wants it, kept for this page. */

import { h } from './dom.ts';

const themes = ['system', 'light', 'dark'] as const;
const labels = { system: 'Auto', light: 'Light', dark: 'Dark' };

export function themeSwitch(): HTMLElement {
  return h(
    'fieldset',
    { class: 'switch theme' },
    h('legend', { class: 'unseen' }, 'Colours'),
    themes.map((theme) =>
      h(
        'label',
        {},
        h('input', {
          type: 'radio',
          name: 'theme',
          value: theme,
          checked: theme === 'system',
          onchange: () => apply(theme),
        }),
        h('span', {}, labels[theme]),
      ),
    ),
  );
}

function apply(theme: (typeof themes)[number]): void {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
