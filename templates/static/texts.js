// The page's language: the translations of the scripts' texts, which the page holds, and numbers as people write them.

export const language = document.documentElement.lang;
const texts = JSON.parse(document.getElementById("texts").textContent);
const plural = new Intl.PluralRules(language);

const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_all, name) => values[name]);

// Return `text` in the page's language, with `values` for its placeholders `%(name)s`.
export const gettext = (text, values = {}) => fill(texts[text] || text, values);

// Return the form of a text for `number`.
export function ngettext(one, many, number, values = {}) {
  const form = plural.select(number) === "one" ? 0 : 1;
  return fill((texts[one] || [one, many])[form], values);
}

export const decimal = (number, digits) =>
  number.toLocaleString(language, { maximumFractionDigits: digits, useGrouping: false });
