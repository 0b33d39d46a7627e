/* Elements, made and filled as text only: nothing that a server or a file says is ever read as HTML. */

/** The element with that id. */
export const $ = (id) => document.getElementById(id);

/** A new element: `make("button", {type: "button", class: "plain"}, "Copy", otherElement)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show or hide, for eyes, keyboards and screen readers alike. */
export function show(element, shown) {
  element.hidden = !shown;
}

/** `act`, once, when nothing asked for it again for that many milliseconds; not at all after `cancel()`. */
export function debounced(act, milliseconds) {
  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
  return Object.assign(later, { cancel: () => clearTimeout(timer) });
}

/** Put `text` on the clipboard, also where the browser keeps its newer way for secure pages. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = make("textarea", { readonly: true, class: "aside" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
