'use client';

import clsx from 'clsx';
import Link from 'next/link';
import { usePathname } from 'next/navigation';

export default function NavLink({ href, children }) {
  return (
    <Link href={href} className={clsx('nav', { current: usePathname() === href })}>
      {children}
    </Link>
  );
}
