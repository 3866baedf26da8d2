// What the page can do beyond being read: hide mechanisms, linear axes, values beside the pointer, data to take away.
// It fetches nothing and keeps nothing; without it, everything is there to be read.
'use strict';
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const svg = (tag, attributes) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const short = (number) => Number(number.toPrecision(3)).toLocaleString('en');

// --- hide mechanisms ---

const tools = make('div', { id: 'tools' });
const shown = make('fieldset', {}, make('legend', { textContent: 'Show' }));
const names = JSON.parse(document.getElementById('rows').textContent);
names.forEach((name, row) => {
  const box = make('input', { type: 'checkbox', checked: true });
  box.onchange = () => all(`[data-row="${row}"]`).forEach((one) => {
    (one.closest('svg.grid')?.closest('figure') ?? one).classList.toggle('off', !box.checked);
  });
  shown.append(make('label', {}, box, ` ${name}`));
});
tools.append(shown);

// --- linear axes ---

// One axis of a plot: a place for a value. What was drawn stands on a logarithmic one; a linear one begins at 0.
const places = (plot, axis, values) => {
  const [from, to] = plot.dataset[axis].split(' ').map(Number);
  const most = Math.max(...values, Number.MIN_VALUE);
  const place = (value) => from + (value / most) * (to - from);
  const rough = most / 5;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * decade).find((one) => one >= rough) ?? decade;
  const ticks = Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, at) => at * step);
  return { place, ticks };
};
const read = (text) => text.split(';').map((point) => point.split(' ').map(Number));
const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L')}`;

// Everything that has a place, as attributes, so that it can be put back.
const movable = '.line, .band, .model, .interval, .point, .gap, .marks, .intervals';
const remember = (element) => { element.was ??= { d: element.getAttribute('d'), transform: element.getAttribute('transform') }; };
const restore = (element) => {
  for (const [name, value] of Object.entries(element.was ?? {})) if (value !== null) element.setAttribute(name, value);
};

const toLinear = (plot) => {
  const series = all('.series', plot).map((group) => ({ group, points: read(group.dataset.v) }));
  if (!series.length || plot.dataset.x.endsWith('linear')) return;
  // Panels of one scale keep one: each is as long as the longest of them.
  const panels = all('.series', plot.closest('.shared') ?? plot);
  const points = panels.flatMap((group) => read(group.dataset.v));
  const x = places(plot, 'x', points.map((point) => point[0]));
  const y = places(plot, 'y', points.flatMap((point) => [point[1], point[3]]));
  const at = ([across, up]) => [x.place(across), y.place(up)];
  all(movable, plot).forEach(remember);
  for (const { group, points } of series) {
    group.querySelector('.line')?.setAttribute('d', path(points.map(at)));
    const above = points.map((point) => at([point[0], point[3]]));
    const below = points.map((point) => at([point[0], point[2]])).reverse();
    group.querySelector('.band')?.setAttribute('d', `${path([...above, ...below])}Z`);
    const model = group.querySelector('.model');
    model?.setAttribute('d', path(read(model.dataset.v).map(at)));
    const dense = group.querySelector('.marks');
    dense?.setAttribute('d', points.map(at).map(([left, top]) =>
      `M${left.toFixed(1)} ${top.toFixed(1)}${dense.was.d.match(/m[^M]*/)[0]}`).join(''));
    group.querySelector('.intervals')?.setAttribute('d', points.map(([across, , low, high]) =>
      `M${x.place(across).toFixed(1)} ${y.place(low).toFixed(1)}V${y.place(high).toFixed(1)}`).join(''));
    all('.point', group).forEach((mark, index) => {
      const [across, up, low, high] = points[index];
      const [left, top] = at([across, up]);
      mark.setAttribute('transform', `translate(${left.toFixed(1)} ${top.toFixed(1)})`);
      mark.querySelector('.interval')?.setAttribute('d', `M0 ${(y.place(low) - top).toFixed(1)}V${(y.place(high) - top).toFixed(1)}`);
    });
  }
  for (const gap of all('.gap', plot)) {
    const down = gap.was.transform.match(/[\d.]+(?=\))/)[0];
    gap.setAttribute('transform', `translate(${x.place(Number(gap.dataset.x)).toFixed(1)} ${down})`);
  }
  const line = { stroke: 'currentColor', 'stroke-opacity': '.15' };
  const ticks = (name, of, draw) => {
    const group = plot.querySelector(name);
    group.drawn ??= group.innerHTML;
    group.replaceChildren(...of.ticks.flatMap((tick) => {
      const { d, ...text } = draw(of.place(tick).toFixed(1));
      const label = svg('text', text);
      label.textContent = short(tick);
      return [svg('path', { d, ...line }), label];
    }));
  };
  ticks('.ticks-x', x, (place) => ({ d: `M${place} 34V284`, x: place, y: 300 }));
  ticks('.ticks-y', y, (place) => ({ d: `M64 ${place}H544`, x: 58, y: Number(place) + 4 }));
};
const toLogarithmic = (plot) => {
  all(movable, plot).forEach(restore);
  for (const group of all('.ticks-x, .ticks-y', plot)) if (group.drawn) group.innerHTML = group.drawn;
};
const linear = make('input', { type: 'checkbox', id: 'linear' });
linear.onchange = () => all('svg.lines').forEach(linear.checked ? toLinear : toLogarithmic);
tools.append(make('label', {}, linear, ' Linear axes'));
document.querySelector('nav').after(tools);

// --- values beside the pointer, or by the arrow keys ---

const tip = make('div', { id: 'tip', hidden: true, role: 'status' });
document.body.append(tip);
const say = (text, left, top) => {
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = `${Math.max(4, Math.min(left + 14, scrollX + innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${top + 14}px`;
};
const hush = () => {
  tip.hidden = true;
  all('.near').forEach((one) => one.classList.remove('near'));
};
// Of a curve without marks, its corners are places to point at; of many marks, those of their one path.
const corners = (plot) => all('.series:not(.off)', plot).flatMap((group) => {
  const values = read(group.dataset.v);
  const marks = all('.point', group);
  const dense = group.querySelector('.marks');
  const drawn = dense ? [...dense.getAttribute('d').matchAll(/M([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]) : marks.length
    ? marks.map((mark) => mark.getAttribute('transform').match(/-?[\d.]+/g).map(Number))
    : group.querySelector('.line').getAttribute('d').slice(1).split('L').map((point) => point.split(' ').map(Number));
  return drawn.map(([x, y], index) => ({ x, y, mark: marks[index], name: group.dataset.name, value: values[index] }));
});
const told = (plot, corner) => {
  const same = corners(plot).filter((one) => one.mark && one.value[0] === corner.value[0]).sort((a, b) => b.value[1] - a.value[1]);
  const line = ({ name, value: [x, y, low, high] }) =>
    `${name}: ${short(y)}${low === high ? '' : ` (${short(low)} to ${short(high)})`}${corner.mark ? '' : ` at ${short(x)}`}`;
  const lines = (same.length ? same : [corner]).map((one) => (one.name === corner.name && same.length > 1 ? '▸ ' : '') + line(one));
  return [corner.mark ? `at ${short(corner.value[0])}` : null, ...lines].filter(Boolean).join('\n');
};
const show = (plot, corner, left, top) => {
  hush();
  corner.mark?.classList.add('near');
  plot.at = corner;
  say(told(plot, corner), left, top);
};
for (const plot of all('svg.plot')) {
  // The browser's own tip would stand on ours.
  for (const title of all('title', plot)) {
    title.parentNode.tip = title.textContent;
    title.remove();
  }
  plot.onpointerleave = hush;
  plot.onpointermove = (event) => {
    let under = event.target;
    while (under !== plot && !under.tip) under = under.parentNode;
    if (under.tip && !under.classList.contains('point')) return say(under.tip, event.pageX, event.pageY);
    const matrix = plot.getScreenCTM()?.inverse();
    if (!matrix || !plot.classList.contains('lines')) return hush();
    const here = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    const far = (one) => (one.x - here.x) ** 2 + (one.y - here.y) ** 2;
    const nearest = corners(plot).reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
    return nearest && far(nearest) < 1600 ? show(plot, nearest, event.pageX, event.pageY) : hush();
  };
  if (!plot.classList.contains('lines')) continue;
  plot.tabIndex = 0;
  plot.onblur = hush;
  plot.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const places = corners(plot);
    if (!step || !places.length) return event.key === 'Escape' && hush();
    event.preventDefault();
    const now = places.findIndex((one) => one.name === plot.at?.name && one.value[0] === plot.at.value[0] && one.value[1] === plot.at.value[1]);
    const next = places[(now + step + places.length) % places.length];
    const at = new DOMPoint(next.x, next.y).matrixTransform(plot.getScreenCTM());
    return show(plot, next, at.x + scrollX, at.y + scrollY);
  };
}

// --- data to take away ---

const save = (name, type, text) => {
  const link = make('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
for (const figure of all('figure')) {
  const plot = figure.querySelector('svg.plot');
  const title = plot.getAttribute('aria-label');
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  const button = (text, of, does) => make('button', { type: 'button', textContent: text, ariaLabel: `${of} of ${title}`, onclick: does });
  figure.querySelector('details').before(make('span', { className: 'save' },
    button('CSV', 'Data', () => save(`${name}.csv`, 'text/csv', plot.querySelector('metadata').textContent)), ' ',
    button('SVG', 'Picture', () => save(`${name}.svg`, 'image/svg+xml', new XMLSerializer().serializeToString(plot)))));
}

// Whoever prints wants to see what is behind each heading, too.
addEventListener('beforeprint', () => all('details:not([open])').forEach((one) => { one.open = true; one.opened = true; }));
addEventListener('afterprint', () => all('details').filter((one) => one.opened).forEach((one) => { one.open = false; }));
