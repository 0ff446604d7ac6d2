// The page: its sections in order, links to them, and what redraws them.

function main() {
    const title = document.getElementById('title');
    title.textContent = DATA.title;
    const trajectory = DATA.prompts.length ? new Trajectory() : null;
    const parts = [
        DATA.runs.length ? null : trajectory?.node, // a page of one prompt begins with it
        aboutSection(),
        ...laidSections('parity'),
        ...lensSections(),
        transferSection(),
        DATA.runs.length ? trajectory?.node : null,
        ...probeSections(),
        ...laidSections('attribution', 'heads', 'concepts', 'causal', 'later', 'changes', 'thoughts'),
    ].filter(Boolean);
    document.getElementById('main').append(...parts);
    document
        .getElementById('foot')
        .append(`${DATA.tool.name} ${DATA.tool.version}. This page holds its data and asks the network for nothing.`);
    const go = (id) => {
        const heading = document.getElementById(`${id}-title`) ?? document.getElementById('main');
        heading.scrollIntoView({ block: 'start' });
        heading.focus({ preventScroll: true });
    };
    document.getElementById('nav').append(
        ...parts.map((part) =>
            el(
                'a',
                {
                    href: `#at=${part.id}`,
                    onclick: (event) => {
                        event.preventDefault();
                        choose('at', part.id, '');
                        go(part.id);
                    },
                },
                part.querySelector('h2').textContent,
            ),
        ),
    );
    document.getElementById('skip').addEventListener('click', (event) => {
        event.preventDefault();
        go('main');
    });

    const redraw = (options) => {
        redrawFigures(options);
        trajectory?.redraw();
    };
    watchTheme(() => redraw({ all: printing }));
    onAddress(() => {
        trajectory?.build();
        redraw({ controls: true });
        go(choice('at', 'main'));
    });
    let width = innerWidth;
    addEventListener('resize', () => {
        if (innerWidth !== width) redraw({});
        width = innerWidth;
    });
    addEventListener('scroll', hideCard, { passive: true });
    redraw({});
    if (choice('at', '')) go(choice('at', ''));
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

main();
