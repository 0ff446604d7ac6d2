// Layers × tokens as an ARIA grid of which only the part in view exists. Cells are made once and moved while scrolling.

const GUTTER = 58;
const ROW = 24;
const SPARE = 3; // columns and rows kept on either side of the view

/**
 * `on`: { hover(layer, pos, event), leave(), focus(layer, pos), press(layer, pos) }; `layer` is a place in reading.layers.
 */
class Grid {
    constructor(id, on) {
        this.id = id;
        this.on = on;
        this.focus = null;
        this.body = el('div', { class: 'rows', role: 'presentation' });
        this.node = el('div', { class: 'grid', id, role: 'grid', tabindex: 0, 'aria-readonly': 'true' }, this.body);
        this.node.addEventListener('scroll', () => this.schedule(), { passive: true });
        this.node.addEventListener(
            'pointermove',
            (event) => this.under(event, (r, c) => on.hover(r, c, event)) || on.leave(),
        );
        this.node.addEventListener('pointerleave', on.leave);
        this.node.addEventListener('click', (event) =>
            this.under(event, (r, c) => {
                this.moveTo(r, c, false);
                on.press(r, c);
            }),
        );
        this.node.addEventListener('keydown', (event) => this.key(event));
        this.node.addEventListener('focus', () => {
            // a click brings its own place; moving before it would carry the cell away
            if (this.node.matches(':focus-visible')) this.moveTo(...(this.focus ?? [this.rows[0], 0]));
        });
        new ResizeObserver(() => this.schedule()).observe(this.node);
    }

    /** Builds rows for `reading`; `rows` are places of its layers, lowest first; `look(r, c)` is how a cell looks. */
    show(reading, rows, cell, look) {
        Object.assign(this, { reading, rows, cell, look, n: reading.prompt.tokens.length });
        const width = GUTTER + this.n * cell;
        this.body.style.width = `${width}px`;
        this.node.setAttribute('aria-rowcount', rows.length + 2);
        this.node.setAttribute('aria-colcount', this.n + 1);
        this.node.setAttribute('aria-label', `${reading.prompt.name}, ${reading.title}: layers by tokens`);
        this.lines = [
            this.line('head', '', 'columnheader'),
            ...[...rows]
                .reverse()
                .map((place) => this.line('layer', reading.prompt.layerName(reading.layers[place]), 'gridcell', place)),
            this.line('foot', 'token', 'columnheader'),
            this.line('depth', 'depth', 'gridcell'),
        ];
        this.lines.forEach((line, i) => line.node.setAttribute('aria-rowindex', i + 1));
        this.body.replaceChildren(...this.lines.map((line) => line.node));
        this.draw();
    }

    line(kind, name, role, place = null) {
        const label = el('div', { class: 'name', role: 'rowheader' }, name);
        return { kind, place, role, slots: [], node: el('div', { class: `row ${kind}`, role: 'row' }, label) };
    }

    schedule() {
        if (this.pending || !this.reading) return;
        this.pending = requestAnimationFrame(() => {
            this.pending = 0;
            this.draw();
        });
    }

    /** Fills the rows and columns in view; a cell that stays is left alone. */
    draw() {
        const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.node;
        const inView = Math.ceil((clientWidth || 800) / this.cell) + 2 * SPARE;
        const count = Math.min(this.n, inView);
        const first = Math.max(0, Math.min(this.n - count, Math.floor(scrollLeft / this.cell) - SPARE));
        const high = (i) =>
            i * ROW > scrollTop - (SPARE + 1) * ROW && i * ROW < scrollTop + (clientHeight || 900) + SPARE * ROW;
        for (const line of this.lines.filter(({ place }, i) => place === null || high(i))) {
            while (line.slots.length < count) this.addSlot(line);
            while (line.slots.length > count) line.slots.pop().node.remove();
            for (let c = first; c < first + count; c++) {
                const slot = line.slots[c % count];
                if (slot.c === c) continue;
                slot.c = c;
                this.write(line, slot, c);
            }
        }
        if (this.focus) this.markFocus();
    }

    addSlot(line) {
        const text = el('bdi', { class: 'token' });
        const node = el('div', { class: 'cell', role: line.role }, text);
        line.node.append(node);
        line.slots.push({ node, text, c: -1 });
    }

    write(line, slot, c) {
        const { node, text } = slot;
        node.style.transform = `translateX(${GUTTER + c * this.cell}px)`;
        node.style.width = `${this.cell - 1}px`;
        node.setAttribute('aria-colindex', c + 2);
        node.dataset.pos = c;
        if (line.place === null) {
            const shown =
                line.kind === 'depth'
                    ? this.reading.prompt.layerName(this.reading.next.depth(c))
                    : this.reading.prompt.text(this.reading.prompt.tokens[c]);
            text.textContent = shown;
            if (line.kind !== 'depth')
                node.title = `token ${c}: ${isolated(shown)}, id ${this.reading.prompt.ids[this.reading.prompt.tokens[c]]}`;
            return;
        }
        const look = this.look(line.place, c);
        node.id = `${this.id}-${line.place}-${c}`;
        node.dataset.layer = line.place;
        text.textContent = look.text;
        node.style.backgroundColor = look.back;
        node.style.color = look.front;
        node.className = look.className;
        node.setAttribute('aria-label', look.label);
    }

    /** The layer row and position under the pointer. */
    under(event, found) {
        const node = event.target.closest?.('[data-layer]');
        if (!node) return false;
        found(Number(node.dataset.layer), Number(node.dataset.pos));
        return true;
    }

    key(event) {
        const last = this.rows.length - 1;
        const [layer, pos] = this.focus ?? [this.rows[last], 0];
        const at = Math.max(0, this.rows.indexOf(layer));
        const page = Math.max(1, Math.floor(this.node.clientWidth / this.cell) - 1);
        const to = {
            ArrowUp: [at + 1, pos],
            ArrowDown: [at - 1, pos],
            ArrowLeft: [at, pos - 1],
            ArrowRight: [at, pos + 1],
            Home: [at, 0],
            End: [at, this.n - 1],
            PageDown: [at, pos + page],
            PageUp: [at, pos - page],
        }[event.key];
        if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            this.on.press(layer, pos);
        } else if (event.key === 'Escape') this.on.leave();
        else if (to) {
            event.preventDefault();
            const within = (v, n) => Math.min(n, Math.max(0, v));
            this.moveTo(this.rows[within(to[0], last)], within(to[1], this.n - 1));
        }
    }

    /** Moves the focus and brings the cell into view. */
    moveTo(layer, pos, tell = true) {
        const place = this.rows.includes(layer) ? layer : this.rows.at(-1);
        this.focus = [place, Math.min(pos, this.n - 1)];
        const left = this.focus[1] * this.cell;
        const room = this.node.clientWidth - GUTTER;
        if (left < this.node.scrollLeft) this.node.scrollLeft = left;
        else if (left + this.cell > this.node.scrollLeft + room) this.node.scrollLeft = left + this.cell - room;
        const top = this.lines.findIndex((one) => one.place === place) * ROW;
        const end = top + 3 * ROW - this.node.clientHeight; // the row and the two below it that stay in view
        if (top - ROW < this.node.scrollTop) this.node.scrollTop = top - ROW;
        else if (end > this.node.scrollTop) this.node.scrollTop = end;
        this.draw();
        if (tell) this.on.focus(...this.focus);
    }

    markFocus() {
        const id = `${this.id}-${this.focus[0]}-${this.focus[1]}`;
        this.node.querySelector('.focus')?.classList.remove('focus');
        const node = document.getElementById(id);
        if (node) node.classList.add('focus');
        this.node.setAttribute('aria-activedescendant', node ? id : '');
    }
}
