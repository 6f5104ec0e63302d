'use client';

import { useEffect, useState } from 'react';
import { get } from '../lib/api';

export default function RemoteList({ path, title, fields }) {
  const [state, setState] = useState({ rows: [], problem: null });

  useEffect(() => {
    get(path)
      .then((rows) => setState({ rows, problem: null }))
      .catch((problem) => setState({ rows: [], problem: problem.message }));
  }, [path]);

  return (
    <section>
      <h2>{title}</h2>
      {state.problem && <p role="alert">{state.problem}</p>}
      <ul>
        {state.rows.map((row) => (
          <li key={row.id}>{fields.map((field) => row[field]).join(' · ')}</li>
        ))}
      </ul>
    </section>
  );
}
