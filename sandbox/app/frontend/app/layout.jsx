import Link from 'next/link';

export const metadata = { title: 'Sparklio', description: 'AI marketing studio' };

export default function RootLayout({ children }) {
  return (
    <html lang="ko">
      <body>
        <nav>
          <Link href="/">Sparklio</Link> <Link href="/dashboard">Dashboard</Link> <Link href="/workflows">Workflows</Link>
        </nav>
        <main>{children}</main>
      </body>
    </html>
  );
}
